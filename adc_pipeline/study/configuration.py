"""Run configuration of a study: one YAML file for all of its jobs, below the configuration that a plan carries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adc_pipeline.core.cluster.connection import connected
from adc_pipeline.core.cluster.process import RESOURCE
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.settings import as_shown
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.study.cells import INPUTS
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.walks.kinds import KINDS

# The assets that each job materializes.
OPS = {
    "study_inputs": ("raw_corpus", *INPUTS),
    "study": ("study_cell",),
    "study_result": ("study_table",),
}
# The sections of Dagster's run configuration.
SECTIONS = ("ops", "resources", "execution", "loggers")
# Assets of other jobs, which a configuration file may also set.
OTHERS = (
    *(name for kind in KINDS.values() for name in (kind.model, kind.evaluation, kind.champion)),
    "comparison",
    "corpus_month",
    "preferences",
    "prune_store",
    "publish_artefacts",
)


def read_config(path: Path | None) -> dict[str, Any]:
    """Return the run configuration in a file; raise PipelineError if it is invalid."""
    return dict(checked(read_mapping(path), path)) if path else {}


def checked(config: Mapping[str, Any], path: object) -> Mapping[str, Any]:
    """Return a run configuration; raise PipelineError if it is invalid or the name of an asset is unknown."""
    if wrong := [str(name) for name in config if name not in SECTIONS]:
        raise PipelineError(
            f"{path}: `{wrong[0]}`{did_you_mean(wrong[0], SECTIONS)} is no part of a run configuration; use one of"
            f" {', '.join(SECTIONS)}."
        )
    ops = config.get("ops") or {}
    if not isinstance(ops, Mapping):
        raise PipelineError(f"{path}: `ops` is {as_shown(ops)}; use a mapping of assets to their settings.")
    known = [name for names in OPS.values() for name in names]
    if wrong := sorted(map(str, ops.keys() - {*known, *OTHERS})):
        names = ", ".join(f"{name}{did_you_mean(name, [*known, *OTHERS])}" for name in wrong)
        raise PipelineError(f"The run configuration {path} sets {names}, which is no asset.")
    for name, op in ops.items():
        given = dict(op or {}) if isinstance(op or {}, Mapping) else {"": op}
        if not isinstance(given.pop("config", None) or {}, Mapping) or given:
            raise PipelineError(f"{path}: {name} is {as_shown(op)}; give its settings as a mapping, below `config`.")
    if others := sorted(ops.keys() - known):
        print(f"The configuration also sets {', '.join(others)}, which the study does not make.")
    return config


def config_of(config: Mapping[str, Any], asset: str) -> Mapping[str, Any]:
    """Return the settings that a run configuration, which `checked` has accepted, gives an asset."""
    return ((config.get("ops") or {}).get(asset) or {}).get("config") or {}


def merged(plan: Plan, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan's run configuration with that of the command over it, setting by setting."""
    names = {**(plan.config.get("ops") or {}), **(config.get("ops") or {})}
    ops = {name: {"config": {**config_of(plan.config, name), **config_of(config, name)}} for name in names}
    return {**plan.config, **config, "ops": ops}


def placement_of_cells(config: Mapping[str, Any]) -> Placement:
    """Return where cells run; raise PipelineError if the settings are invalid, or no cluster answers that they name."""
    given = (config.get("resources") or {}).get(RESOURCE) or {}
    placement = read_settings(Placement, given.get("config"), RESOURCE)
    if placement.on_cluster:
        connected(RESOURCE)
    return placement


def settings_of_cells(config: dict[str, Any]) -> CellSettings:
    """Return the settings that all cells share; raise PipelineError if they are invalid."""
    return read_settings(CellSettings, config_of(config, "study_cell"), "study_cell")
