"""Make a Dagster asset of a declared stage."""

from typing import TypeVar

import dagster as dg

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.settings import Settings
from adc_pipeline.defs.code_references import source_link
from adc_pipeline.defs.frame import materialize
from adc_pipeline.defs.run_config import schema
from adc_pipeline.defs.stage import SETTINGS, STAGES, Stage
from adc_pipeline.defs.volume import volume_spec
from adc_pipeline.defs.workspace import Workspace

S = TypeVar("S", bound=Settings)

# The asset of every declared stage, by name.
ASSETS: dict[str, dg.AssetsDefinition | dg.AssetSpec] = {}
# Dagster's tag of a materialization that an op reports.
DATA_VERSION = "dagster/data_version"
# Dagster's tag by which a run orders steps that are ready.
PRIORITY_TAG = "dagster/priority"


def declare(stage: Stage[S]) -> dg.AssetsDefinition:
    """Register a stage and return its asset."""

    @dg.asset(
        name=stage.name,
        description=stage.description,
        group_name=stage.group,
        deps=list(stage.inputs),
        config_schema=schema(stage.settings),
        kinds=set(stage.kinds),
        code_version=code_version(*stage.code),
        pool=stage.pool,
        op_tags={PRIORITY_TAG: str(stage.priority)} if stage.priority else None,
        owners=[stage.owner],
        partitions_def=stage.partitions,
        metadata=source_link(stage.make),
        check_specs=[volume_spec(stage)] if stage.volume else None,
    )
    def asset(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
        made = materialize(stage, context, workspace)
        # Metadata of the result would be stored once more, with the step's output.
        context.add_asset_metadata(made.metadata)
        return dg.MaterializeResult(data_version=dg.DataVersion(made.digest), check_results=list(made.checks))

    STAGES[stage.name], SETTINGS[stage.name], ASSETS[stage.name] = stage, stage.settings, asset
    return asset


def op_of(stage: Stage[S], name: str = "") -> dg.OpDefinition:
    """Return an op that makes a stage's asset in a job of partitions.

    One with a `name` makes an asset that has an op of its own, by the settings of its current version.
    """

    @dg.op(
        name=name or stage.name,
        description=stage.description,
        config_schema=None if name else schema(stage.settings),
        pool=stage.pool,
        ins={"after": dg.In(dg.Nothing)} if stage.inputs else None,
        out=dg.Out(dg.Nothing),
    )
    def op(context: dg.OpExecutionContext, workspace: Workspace) -> None:
        made = materialize(stage, context, workspace)
        context.log_event(
            dg.AssetMaterialization(
                stage.name,
                partition=context.partition_key if stage.partitions else None,
                metadata=made.metadata,
                tags={DATA_VERSION: made.digest},
            )
        )

    return op


def declare_for_job(stage: Stage[S]) -> dg.OpDefinition:
    """Register a stage whose partitions only a job makes; return the op of that job, which has the asset's name.

    The asset is in the graph and has a history, but is not executable there: *Materialize all* makes all executable
    assets, and would ask for a partition if one of them had any.
    """

    op = op_of(stage)
    STAGES[stage.name], SETTINGS[stage.name] = stage, stage.settings
    ASSETS[stage.name] = dg.AssetSpec(
        stage.name,
        description=stage.description,
        group_name=stage.group,
        deps=list(stage.inputs),
        kinds=set(stage.kinds),
        code_version=code_version(*stage.code),
        owners=[stage.owner],
        partitions_def=stage.partitions,
        metadata=source_link(stage.make),
    )
    return op


def executable_assets() -> list[dg.AssetsDefinition]:
    """Return the assets that Dagster can make: all but those that only a job makes."""
    return [asset for asset in ASSETS.values() if isinstance(asset, dg.AssetsDefinition)]
