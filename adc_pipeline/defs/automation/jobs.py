"""The jobs, each a selection of assets, some with the settings of a preset."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg

from adc_pipeline.defs.asset import executable_assets, op_of

# Importing them declares the assets.
from adc_pipeline.defs.assets import lifecycle as _lifecycle  # noqa: F401
from adc_pipeline.defs.assets import months
from adc_pipeline.defs.assets.study import CELLS, study_cell
from adc_pipeline.defs.presets import PRESETS, preset_config
from adc_pipeline.defs.run_config import job_config
from adc_pipeline.defs.stage import SETTINGS, STAGES
from adc_pipeline.defs.started_by import KEEPS_SETTINGS

WALKS = dg.AssetSelection.groups("corpus", "ranking", "walks")
DATASETS = WALKS | dg.AssetSelection.groups("preferences")
# What *Materialize all* and the jobs without partitions leave out: assets of partitions, which a job of each makes.
PARTITIONED = dg.AssetSelection.groups("study", months.GROUP)
STUDY = dg.AssetSelection.groups("study")
STUDY_INPUTS = WALKS | dg.AssetSelection.assets("base_model", "judge")


def config_of(selection: dg.AssetSelection, preset: Mapping[str, Any] | None = None) -> dg.ConfigMapping:
    """Return the configuration of a job that makes the selected assets, with what the launchpad begins with."""
    keys = selection.resolve(executable_assets())
    return job_config({name: kind for name, kind in SETTINGS.items() if dg.AssetKey(name) in keys}, preset)


adc = dg.define_asset_job(
    "adc",
    selection=dg.AssetSelection.all() - PARTITIONED,
    config=config_of(dg.AssetSelection.all() - PARTITIONED),
    description="Everything, from the raw corpus to the comparison of all models and the champions.",
)
datasets = dg.define_asset_job(
    "datasets",
    selection=DATASETS,
    config=config_of(DATASETS),
    description="From the raw corpus to the datasets of walks and of preferences.",
)


# No `config_of`: Dagster allows no config mapping where there are partitions.
@dg.job(
    partitions_def=CELLS,
    description="A cell of the study: a model, trained and evaluated. Run all partitions for the whole grid.",
)
def study() -> None:
    study_cell()


@dg.job(
    partitions_def=months.MONTHS,
    tags={KEEPS_SETTINGS: "true"},
    description="Reads a month of the corpus ahead: a late file, or a backfill of many months, is one click. Records"
    " the corpus first, by the settings that it has.",
)
def read_month() -> None:
    months.corpus_month(op_of(STAGES["raw_corpus"], "record_corpus")())


study_inputs = dg.define_asset_job(
    "study_inputs",
    selection=STUDY_INPUTS,
    config=config_of(STUDY_INPUTS),
    description="The inputs of every cell of the study: the walk datasets, the base model and the judge.",
)
study_result = dg.define_asset_job(
    "study_result",
    selection=dg.AssetSelection.assets("study_table"),
    config=config_of(dg.AssetSelection.assets("study_table")),
    description="The result of the study, a table and a page, from the cells that have been made.",
)


def makeable_assets() -> list[str]:
    """Return the names of the assets that a run makes without a partition."""
    keys = (dg.AssetSelection.all() - PARTITIONED).resolve(executable_assets())
    return sorted(name for name in STAGES if dg.AssetKey(name) in keys)


def job_of_assets(names: Sequence[str], definitions: dg.Definitions) -> dg.JobDefinition:
    """Return a job that makes some assets, by name, and what they need."""
    selection = dg.AssetSelection.assets(*names).upstream()
    job = dg.define_asset_job("chosen_assets", selection=selection, config=config_of(selection))
    return job.resolve(asset_graph=definitions.resolve_asset_graph(), resource_defs=definitions.resources)


# Read by Dagster's launcher for Kubernetes alone (docs/how-to/use-kubernetes.md): the pod of the run asks for a GPU.
GPU_POD = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}}


def preset_job(name: str) -> Any:
    """Return a job whose launchpad is filled with a preset. What a run gives has precedence; see `given_config`."""
    preset, job = PRESETS[name]
    selection = {"datasets": DATASETS, "adc": dg.AssetSelection.all() - PARTITIONED}[job]
    return dg.define_asset_job(
        name,
        selection=selection,
        config=config_of(selection, preset_config(name)),
        description=f"The job {job} with the settings of the preset {preset}; a run may change them.",
        tags={"adc/preset": preset, **(GPU_POD if preset == "gpu" else {})},
    )


jobs: list[Any] = [adc, datasets, read_month, study_inputs, study, study_result, *map(preset_job, PRESETS)]


@cache
def assets_of_jobs() -> dict[str, frozenset[str]]:
    """Return the assets that each job of assets makes, by its name."""
    found = [(job.name, job.selection) for job in jobs if hasattr(job, "selection")]
    return {name: frozenset(names(selection)) for name, selection in found}


def names(selection: dg.AssetSelection) -> list[str]:
    """Return the names of the selected assets."""
    return sorted(key.to_user_string() for key in selection.resolve(executable_assets()))
