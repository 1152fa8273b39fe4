"""Settings of the asset `ranked_replies`."""

from dataclasses import dataclass
from typing import Literal

from adc_pipeline.core.settings import setting

Order = Literal["score", "released"]


@dataclass(frozen=True)
class RankingSettings:
    """Settings of the asset `ranked_replies`; each filter drops a reply with its subtree."""

    deleted: bool = setting(True, "Drop replies whose text is [deleted] or [removed].")
    empty: bool = setting(True, "Drop replies without text.")
    speakers: tuple[str, ...] = setting(("AutoModerator",), "Drop replies of these speakers.")
    stickied: bool = setting(True, "Drop stickied replies, whose score is not comparable.")
    score_hidden: bool = setting(True, "Drop replies whose score the source marks as hidden.")
    distinguished: bool = setting(False, "Drop replies that speak officially, as a moderator or an administrator.")
    min_score: int | None = setting(None, "Drop replies with a lower score than this.")
    min_score_gap: int | None = setting(
        None, "Drop the replies to an utterance, all of them, where the best leads the second by less."
    )
    order: Order = setting(
        "score",
        "score ranks every sibling group by score; released ranks only the replies to the"
        " root, by score, and takes deeper ones in the corpus' own order, as the public datasets do.",
    )
