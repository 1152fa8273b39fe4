"""Settings of the asset `ranked_replies`."""

from dataclasses import dataclass
from typing import Literal

from adc_pipeline.core.settings import Settings, setting

Order = Literal["score", "released"]
ScoreOrder = Literal["higher", "lower"]
NearDuplicates = Literal["keep", "count", "drop"]


@dataclass(frozen=True)
class RankingSettings(Settings):
    """Settings of the asset `ranked_replies`; each filter drops a reply with its subtree."""

    deleted: bool = setting(
        True, "Drop replies whose text is a short note in brackets that says deleted, removed or unavailable."
    )
    empty: bool = setting(True, "Drop replies without text.")
    speakers: tuple[str, ...] = setting(("AutoModerator",), "Drop replies of these speakers.")
    stickied: bool = setting(True, "Drop stickied replies, whose score is not comparable.")
    score_hidden: bool = setting(True, "Drop replies whose score the source marks as hidden.")
    distinguished: bool = setting(False, "Drop replies distinguished as those of a moderator or an administrator.")
    min_age_hours: float | None = setting(
        None,
        "Drop replies whose score was recorded earlier than this after they were written. A reply without a recording"
        " time passes.",
        minimum=0,
        maximum=1_000_000,
    )
    min_score: int | None = setting(
        None,
        "Drop replies with a lower score than this, or a lower value of `rank_by`; where score_order is lower, these"
        " are negative.",
    )
    min_score_gap: int | None = setting(
        None, "Drop all replies to an utterance where the best score leads the second by less than this.", minimum=0
    )
    rank_by: str = setting(
        "score",
        "What replies are ranked by: score; replies, the number of replies that they got; depth, the levels of replies"
        " below them; or the name of a column that `columns` of `raw_corpus` carried, whose true counts as 1 and whose"
        " fractions count in millionths. accepted_reply, if carried, puts the reply that an utterance accepts above the"
        " others. Ties go to the score. A reply without a value is dropped with its subtree.",
    )
    near_duplicates: NearDuplicates = setting(
        "count",
        "What to do with replies that nearly repeat an earlier one anywhere in the corpus (copies, texts of bots):"
        " count keeps them and counts those of a sample, some 4,000 of the first 100,000, with copies chosen together;"
        " drop compares all and keeps the first; keep does not look for them.",
    )
    near_duplicate_words: int = setting(
        8, "Replies with fewer words are no near-duplicates: people thank each other in the same words.", minimum=1
    )
    order: Order = setting(
        "score",
        "score ranks every sibling group by score; released ranks only the replies to the root and leaves deeper"
        " replies in the order of the corpus, as the public datasets do.",
    )
    score_order: ScoreOrder = setting(
        "higher",
        "Whether a higher or a lower score of the corpus, or value of `rank_by`, is better. A rank of which 0 is the"
        " best is lower: such scores are negated, here and in the datasets, so that a higher one is better everywhere"
        " downstream.",
    )
