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
ASSETS: dict[str, dg.AssetsDefinition] = {}


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
        owners=[stage.owner],
        partitions_def=stage.partitions,
        metadata=source_link(stage.make),
        check_specs=[volume_spec(stage)] if stage.volume else None,
    )
    def asset(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
        return materialize(stage, context, workspace)

    STAGES[stage.name], SETTINGS[stage.name], ASSETS[stage.name] = stage, stage.settings, asset
    return asset
