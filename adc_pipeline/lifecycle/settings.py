"""Settings of promotion (when a version becomes the champion) and retention (which old versions are kept)."""

from dataclasses import dataclass

from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.evaluation.settings import DIRECTIONS, TAUGHT, draws_setting, seed_setting
from adc_pipeline.walks.kinds import KINDS

PUBLISHABLE = (*(kind.dataset for kind in KINDS.values()), "preferences", *(kind.model for kind in KINDS.values()))


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


@dataclass(frozen=True)
class PublishSettings(Settings):
    """Settings of the job `publish`."""

    artefacts: tuple[str, ...] = setting(
        (),
        "What to publish: datasets of walks, preferences and models, such as [top_2, preferences, top_2_model].",
        choices=PUBLISHABLE,
    )
    repo_id: str = setting(
        "",
        "Repository on the Hub, such as me/top-2. Of several artefacts each needs one of its own: {name} stands for the"
        " artefact's name, as in me/reddit-{name}.",
    )
    license: str = setting(
        "",
        "Licence, as the Hub names it (cc-by-4.0, mit, other, …). You answer for it: nothing is published without.",
    )
    private: bool = setting(True, "Whether a repository that does not exist yet becomes private.")
    tag: str = setting("", "Tag of the commit; empty takes the beginning of the artefact's digest.")
    message: str = setting("", "Message of the commit; empty names the artefact and its digest.")
    dry_run: bool = setting(True, "Only list what would be published, with sizes and licence, without the network.")
