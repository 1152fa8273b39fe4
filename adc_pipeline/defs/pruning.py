"""The job `prune`: old artefacts in the store, and Dagster's old runs.

dagster job execute -m adc_pipeline.definitions -j prune
"""

import dagster as dg

from adc_pipeline.core.run_configuration import configured
from adc_pipeline.defs.asset import executable_assets
from adc_pipeline.defs.assets.lifecycle import CHECKS
from adc_pipeline.defs.look_ahead import look_ahead
from adc_pipeline.defs.old_runs import old_runs, remove_run, runs_with_excess_logs
from adc_pipeline.defs.run_config import job_config, schema
from adc_pipeline.defs.sentence_failure import ends_as_sentence
from adc_pipeline.defs.stage import SETTINGS
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.lifecycle.retention import FILE, retention
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.tracking.lineage import Records


@dg.op(config_schema=schema(RetentionSettings))
def prune_store(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    """Remove old versions of artefacts, except current ones and those upstream of a registered model."""
    with ends_as_sentence(workspace):
        list_and_remove(context, workspace)


def list_and_remove(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    from adc_pipeline.lifecycle import pruning

    store = workspace.store
    look_ahead(context, workspace)
    settings, reason = retention(store.home, configured(context.run.run_config, "ops", PRUNE), PRUNE)
    workspace.tracking.check()
    plan = pruning.plan(store, Records([workspace.tracking.client()]), settings)
    gone = pruning.prune(store, plan) if settings.delete else []
    for name, digest in plan.to_remove:
        did = "Removed" if (name, digest) in gone else "Not removed" if settings.delete else "Would remove"
        context.log.info(f"{did} {name} {digest} ({plan.bytes[name, digest] >> 20} MiB)")
    checks = [key for each in [*CHECKS, *executable_assets()] for key in each.check_keys]
    runs = old_runs(context.instance, settings.history_days, checks)
    if settings.delete:
        for run in runs:
            remove_run(context.instance, run)
    logs = runs_with_excess_logs(context.instance, settings.logs_mb)
    if settings.delete:
        for run in logs:
            context.instance.compute_log_manager.delete_logs(prefix=[run])
    freed = sum(plan.bytes[key] for key in gone) if settings.delete else plan.freed
    versions, verb = (len(gone), "removed") if settings.delete else (len(plan.to_remove), "would be removed")
    context.log.info(f"{versions} versions {verb} ({freed >> 20} MiB), {len(plan.kept)} kept.")
    context.log.info(f"{len(runs)} ended runs of Dagster {verb}.")
    if logs:
        printed = sum(logs.values()) / 1e6
        context.log.info(f"What the steps of {len(logs)} more runs printed {verb} ({printed:.0f} MB).")
    if unreadable := store.unreadable():
        context.log.warning(
            f"The manifests of {len(unreadable)} versions cannot be read, such as {unreadable[0]}: they are kept."
            " Run the job that makes them, or remove them."
        )
    if reason:
        context.log.warning(f"Nothing is removed, since {reason}.")
    removed = settings.delete
    context.add_output_metadata(
        {"removed": len(gone), "kept": len(plan.kept), "bytes": freed, "runs": len(runs) if removed else 0}
        | {"versions": dg.MetadataValue.md(pruning.markdown(plan, gone))}
        | ({"nothing_removed": reason} if reason else {})
    )


PRUNE = prune_store.name
SETTINGS[PRUNE] = RetentionSettings


@dg.job(
    config=job_config({PRUNE: RetentionSettings}),
    description="Lists old artefacts and old runs of Dagster, and removes those that ADC_HOME/"
    f"{FILE} permits; without that file, nothing.",
)
def prune() -> None:
    prune_store()
