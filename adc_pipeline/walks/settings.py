"""Settings of the walk datasets."""

from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting
from adc_pipeline.walks.markers import FormatName
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.splits import DEFAULT_SHARES


@dataclass(frozen=True)
class WalkSettings:
    """Settings of a dataset of walks."""

    seed: int = setting(0, "Seed of the coins.")
    walks_per_conversation: int = setting(1, "Walks drawn from each conversation, with numbers from 0.")
    format: FormatName = setting("default", "Spelling of the markers: default or released.")
    speakers: Speakers = setting("names", "What stands for a speaker: names, pseudonyms (user1, user2, …) or none.")
    shares: tuple[int, ...] = setting(DEFAULT_SHARES, "Per cent of the conversations in train, validation and test.")

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or sum(self.shares) != 100 or min(self.shares) < 0:
            raise PipelineError(
                f"shares is {list(self.shares)}: give three whole per cents for train, validation and test"
                " that add up to 100."
            )
        if self.walks_per_conversation < 1:
            raise PipelineError("walks_per_conversation must be at least 1.")
