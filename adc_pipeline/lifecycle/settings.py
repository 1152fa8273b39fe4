"""Settings of promotion (when a version becomes the champion) and retention (which old versions are kept)."""

from dataclasses import dataclass

from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.evaluation.settings import DIRECTIONS, TAUGHT, draws_setting, seed_setting


@dataclass(frozen=True)
class PromotionSettings(Settings):
    """Settings of the champions."""

    metric: str = setting(
        "",
        "Metric that must be significantly better on the validation split; the evaluation measures there what its"
        f" `validation_metric` names. Empty: what the dataset teaches, {TAUGHT}.",
        choices=("", *DIRECTIONS),
    )
    draws: int = draws_setting()
    draw_seed: int = seed_setting("Seed of the bootstrap and of the sign-flip test.")


@dataclass(frozen=True)
class RetentionSettings(Settings):
    """Settings of the job `prune`, and of the file `ADC_HOME/prune.yaml`, which alone permits it to remove anything."""

    keep_versions: int = setting(
        3, "Number of newest versions of each artefact to keep, whatever their age.", minimum=1
    )
    keep_days: float = setting(30.0, "Number of days for which every version is kept.", minimum=0, maximum=100_000)
    history_days: float | None = setting(
        None,
        "Number of days for which Dagster's ended runs are kept, with their events and logs; ~ keeps all. Those that"
        " Dagster shows as an asset's latest stay.",
        minimum=0,
        maximum=100_000,
    )
    logs_mb: float | None = setting(
        None,
        "Megabytes of what the steps of Dagster's ended runs printed that are kept, the newest; ~ keeps all.",
        minimum=0,
        maximum=1_000_000_000,
    )
    delete: bool = setting(False, "Remove what is old; without it the job only lists what it would remove.")
