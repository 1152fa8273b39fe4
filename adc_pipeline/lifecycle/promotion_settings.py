"""By which figure a new version of a model has to be better to become the champion."""

from dataclasses import dataclass, field

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.settings import check_draws
from adc_pipeline.walks.coins import WalkKind

# Whether more is better (1) or less (-1), for what every model is tested against its base in. Bits per byte of
# rejected turns are not among them: some objectives are meant to raise those.
DIRECTIONS = {
    "preference_accuracy": 1,
    "preference_accuracy.within_hour": 1,
    "preference_accuracy.later_doubled": 1,
    "steering": 1,
    "in_context_improvement": -1,
    "verdict_calibration.brier": -1,
    "bits_per_byte.accepted": -1,
}
# What each dataset teaches.
METRICS: dict[WalkKind, str] = {"top-2": "preference_accuracy", "random-walk": "steering"}


@dataclass(frozen=True)
class PromotionSettings:
    """Settings of the assets `top_2_champion` and `random_walk_champion`."""

    metric: str = field(
        default="",
        metadata={
            "description": f"Figure that has to be better: one of {', '.join(DIRECTIONS)}. Empty takes"
            " preference_accuracy for top-2 and steering for random-walk."
        },
    )
    draws: int = field(
        default=10_000, metadata={"description": "Resamples of the conversations, and sign flips of the test."}
    )
    draw_seed: int = field(default=0, metadata={"description": "Seed of the bootstrap and of the test."})

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if self.metric and self.metric not in DIRECTIONS:
            raise PipelineError(
                f"The setting `metric` of the promotion is {self.metric!r}; use one of {', '.join(DIRECTIONS)}."
            )
