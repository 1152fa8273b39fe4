"""Settings of the walk datasets."""

from dataclasses import dataclass

from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.walks.leakage import MOST_WALKS, LookedFor
from adc_pipeline.walks.markers import FormatName
from adc_pipeline.walks.rendering import Speakers, mentions_setting
from adc_pipeline.walks.splits import check_shares, shares_setting


@dataclass(frozen=True)
class WalkSettings(Settings):
    """Settings of the walk datasets."""

    seed: int = setting(0, "Seed of the coins.")
    walks_per_conversation: int = setting(
        1, "Number of walks drawn from each conversation.", minimum=1, maximum=100_000
    )
    exclude_repeats: bool = setting(
        True, "Exclude a walk that has the text of an earlier walk of its conversation; with one walk there is none."
    )
    format: FormatName = setting(
        "default", "Marker strings: default, or released for those of the published datasets (texts stay unchanged)."
    )
    speakers: Speakers = setting("names", "How speakers appear: names, pseudonyms (user1, user2, …) or none.")
    mentions: Speakers = mentions_setting()
    leakage: LookedFor = setting(
        "auto",
        "Whether the card counts test conversations that are also in training: none, by equal roots, or also by roots"
        f" or replies that are nearly alike (near). auto is near up to {MOST_WALKS:,} walks, and equal beyond and for"
        " the generated sample. The evaluation excludes them by a setting of its own.",
    )
    shares: tuple[int, ...] = shares_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.shares)
