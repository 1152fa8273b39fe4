"""Settings of the asset `ranked_replies`."""

from dataclasses import dataclass
from typing import Literal

from adc_pipeline.core.settings import Settings, setting

Order = Literal["score", "released"]


@dataclass(frozen=True)
class RankingSettings(Settings):
    """Settings of the asset `ranked_replies`; each filter drops a reply with its subtree."""

    deleted: bool = setting(True, "Drop replies whose text is [deleted] or [removed].")
    empty: bool = setting(True, "Drop replies without text.")
    speakers: tuple[str, ...] = setting(("AutoModerator",), "Drop replies of these speakers.")
    stickied: bool = setting(True, "Drop stickied replies, whose score is not comparable.")
    score_hidden: bool = setting(True, "Drop replies whose score the source marks as hidden.")
    distinguished: bool = setting(False, "Drop replies distinguished as those of a moderator or an administrator.")
    min_score: int | None = setting(None, "Drop replies with a lower score than this.")
    min_score_gap: int | None = setting(
        None, "Drop all replies to an utterance where the best score leads the second by less than this.", minimum=0
    )
    order: Order = setting(
        "score",
        "score ranks every sibling group by score; released ranks only the replies to the root and leaves deeper"
        " replies in the order of the corpus, as the public datasets do.",
    )
