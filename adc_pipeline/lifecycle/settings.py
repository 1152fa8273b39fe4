"""Settings of promotion (when a version becomes the champion) and retention (which old versions are kept)."""

from dataclasses import dataclass

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting
from adc_pipeline.evaluation.settings import check_draws
from adc_pipeline.walks.kinds import KINDS

# Whether higher is better (1) or lower is better (-1), for each metric in which every model is tested against its base.
# Bits per byte of rejected turns are excluded, since some objectives are meant to raise them.
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
    """Settings of the champions."""

    metric: str = setting(
        "",
        f"Metric that must be significantly better: one of {', '.join(DIRECTIONS)}. Empty: what the dataset teaches,"
        f" {', '.join(f'{kind.promoted_by} for {kind.name}' for kind in KINDS.values())}.",
    )
    draws: int = setting(10_000, "Number of bootstrap resamples of the conversations, and of sign flips of the test.")
    draw_seed: int = setting(0, "Seed of the bootstrap and of the sign-flip test.")

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if self.metric and self.metric not in DIRECTIONS:
            raise PipelineError(
                f"The setting `metric` of the promotion is {self.metric!r}; use one of {', '.join(DIRECTIONS)}."
            )


@dataclass(frozen=True)
class RetentionSettings:
    """Settings of the job `prune`."""

    keep_versions: int = setting(3, "Number of newest versions of each artefact to keep, whatever their age.")
    keep_days: float = setting(30.0, "Number of days for which every version is kept.")
    delete: bool = setting(False, "Remove old versions; without it the job only lists what it would remove.")

    def __post_init__(self) -> None:
        if self.keep_versions < 1:
            raise PipelineError(
                f"The setting `keep_versions` of the retention is {self.keep_versions}; use 1 or more (the current"
                " version is always kept)."
            )
        if not self.keep_days >= 0:
            raise PipelineError(f"The setting `keep_days` of the retention is {self.keep_days}; use 0 or more.")
