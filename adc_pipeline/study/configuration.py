"""Run configuration of a study: one YAML file for all of its jobs, below the configuration that a plan carries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adc_pipeline.core.cluster.connection import connected
from adc_pipeline.core.cluster.process import RESOURCE
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.run_configuration import PARTS, configured, mapping, problems_of_shape
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.study.cells import INPUTS, check_same_shares
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.settings import WalkSettings

# The assets that each job materializes.
OPS = {
    "study_inputs": ("raw_corpus", *INPUTS),
    "study": ("study_cell",),
    "study_result": ("study_table",),
}
# Assets of other jobs, which a configuration file may also set.
OTHERS = (
    *(name for kind in KINDS.values() for name in (kind.model, kind.evaluation, kind.champion)),
    "comparison",
    "corpus_month",
    "preferences",
    "prune_store",
    "publish_artefacts",
)
RESOURCES = ("workspace", "mlflow", "shards", RESOURCE)


def read_config(path: Path | None) -> dict[str, Any]:
    """Return the run configuration in a file; raise PipelineError if it is invalid."""
    return dict(checked(read_mapping(path), path)) if path else {}


def checked(config: Mapping[str, Any], path: object) -> Mapping[str, Any]:
    """Return a run configuration; raise PipelineError if a part or an asset of it is unknown."""
    if wrong := [str(name) for name in config if name not in PARTS]:
        raise PipelineError(
            f"{path}: `{wrong[0]}`{did_you_mean(wrong[0], PARTS)} is no part of a run configuration; use one of"
            f" {', '.join(PARTS)}."
        )
    known = [name for names in OPS.values() for name in names]
    if problems := problems_of_shape(config, [*known, *OTHERS], RESOURCES):
        raise PipelineError(f"{path}: {' '.join(problems)}")
    if others := sorted(mapping(config.get("ops")).keys() - known):
        print(f"The configuration also sets {', '.join(others)}, which the study does not make.")
    return config


def placement_of_cells(config: Mapping[str, Any]) -> Placement:
    """Return where cells run; raise PipelineError if the settings are invalid, or no cluster answers that they name."""
    placement = read_settings(Placement, configured(config, "resources", RESOURCE), RESOURCE)
    if placement.on_cluster:
        connected(RESOURCE)
    return placement


def settings_of_cells(config: dict[str, Any]) -> CellSettings:
    """Return the settings that all cells share; raise PipelineError if they are invalid."""
    return read_settings(CellSettings, configured(config, "ops", "study_cell"), "study_cell")


def check_datasets(config: dict[str, Any]) -> None:
    """Raise PipelineError if settings of the walks are invalid, or their splits differ between datasets."""
    names = [kind.dataset for kind in KINDS.values()]
    check_same_shares(
        {name: read_settings(WalkSettings, configured(config, "ops", name), name).shares for name in names}
    )
