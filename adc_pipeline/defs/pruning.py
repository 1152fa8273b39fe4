"""Dagster's view of the retention: the job `prune`, which says what it would remove, and removes it if told to.

dagster job execute -m adc_pipeline.definitions -j prune
"""

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.tracking.lineage import Records


@dg.op
def prune_store(
    context: dg.OpExecutionContext, config: SettingsConfig[RetentionSettings], workspace: Workspace
) -> None:
    """Old versions of artefacts go, but nothing that is in place or that a registered model was made from."""
    from adc_pipeline.lifecycle import pruning

    try:
        settings = config.settings()
        workspace.tracking.check()
        store = workspace.store
        plan = pruning.plan(store, Records([workspace.tracking.client()]), settings)
        gone = pruning.prune(store, plan) if settings.delete else []
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for name, digest in plan.going:
        did = "Removed" if (name, digest) in gone else "Not removed" if settings.delete else "Would remove"
        context.log.info(f"{did} {name} {digest} ({plan.bytes[name, digest] >> 20} MiB)")
    freed = sum(plan.bytes[key] for key in gone) if settings.delete else plan.freed
    context.log.info(
        f"{len(gone) if settings.delete else len(plan.going)} versions {'went' if settings.delete else 'would go'}"
        f" ({freed >> 20} MiB),"
        f" {len(plan.kept)} stay.{'' if settings.delete else ' Set `delete` to true to remove them.'}"
    )
    context.add_output_metadata(
        {"removed": len(gone), "kept": len(plan.kept), "bytes": freed}
        | {"versions": dg.MetadataValue.md(pruning.markdown(plan, gone))}
    )


@dg.job(description="Says which old artefacts are to go by the retention settings; with `delete`, removes them.")
def prune() -> None:
    prune_store()
