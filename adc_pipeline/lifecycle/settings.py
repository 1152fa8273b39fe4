"""Settings of promotion and retention: what makes a version the champion, and which old versions stay."""

from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting
from adc_pipeline.evaluation.settings import check_draws

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


@dataclass(frozen=True)
class PromotionSettings:
    """Settings of the assets `top_2_champion` and `random_walk_champion`."""

    metric: str = setting(
        "",
        f"Figure that has to be better: one of {', '.join(DIRECTIONS)}. Empty takes what"
        " the dataset teaches: preference_accuracy for top-2, steering for random-walk.",
    )
    draws: int = setting(10_000, "Resamples of the conversations, and sign flips of the test.")
    draw_seed: int = setting(0, "Seed of the bootstrap and of the test.")

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if self.metric and self.metric not in DIRECTIONS:
            raise PipelineError(
                f"The setting `metric` of the promotion is {self.metric!r}; use one of {', '.join(DIRECTIONS)}."
            )


@dataclass(frozen=True)
class RetentionSettings:
    """Settings of the job `prune`."""

    keep_versions: int = setting(3, "Newest versions of each artefact that are kept, whatever their age.")
    keep_days: float = setting(30.0, "Days for which every version is kept, however many there are.")
    delete: bool = setting(False, "Whether to remove; without it the job only says what it would remove.")

    def __post_init__(self) -> None:
        if self.keep_versions < 1:
            raise PipelineError(
                f"The setting `keep_versions` of the retention is {self.keep_versions}; use 1 or more (what is in place"
                " is kept in any case)."
            )
        if not self.keep_days >= 0:
            raise PipelineError(f"The setting `keep_days` of the retention is {self.keep_days}; use 0 or more.")
