"""Keep the assets that a failed or cancelled run never made from looking otherwise than before.

Dagster plans every asset of a run when the run begins, and its graph shows each asset whose newest planned run has
failed as failed, also where nothing was tried: a wrong setting of one asset turns the whole graph red, as if all data
were gone. So when a run fails, each asset that it planned, did not start, and that an earlier run has materialized is
planned once more for that earlier run, whose materialization stays the newest. No data, time or freshness changes.
Costs a row in the log of the earlier run for each asset. A check that was planned and has no result makes its asset
look failed too, and after a cancelled run as if it had never passed, so its last result is repeated, if that is of the
version in place. A run whose process was killed, or that was cancelled before it had one, has nobody to do this: the
launcher does where it notices that, and `compact_storage` where Dagster's code server or page reports it. What was done
already is left.

The names from `dagster._core` below have no public export in Dagster 1.13.
"""

from collections.abc import Mapping

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
)


def show_as_before(instance: dg.DagsterInstance, run: dg.DagsterRun, cancelled: bool = False) -> list[str]:
    """Show the assets that a run which ends has not made as they were before; return their names.

    One that a failing run has started is left out: it has failed. A cancelled run leaves none that looks failed, and
    only the checks are repeated.
    """
    ending = instance.get_run_by_id(run.run_id)
    if ending is None or ending.is_finished:
        return []
    cancelled = cancelled or ending.status is dg.DagsterRunStatus.CANCELING
    begun = dg.DagsterEventType.ASSET_MATERIALIZATION if cancelled else dg.DagsterEventType.STEP_START
    done = {entry.step_key for entry in instance.all_logs(run.run_id, of_type=begun)}
    found: dict[dg.AssetKey, float] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED):
        event = entry.dagster_event
        if event is None or event.asset_key is None or event.partition or entry.step_key in done:
            continue
        last = instance.get_latest_materialization_event(event.asset_key)
        if last is None or not instance.has_run(last.run_id):
            continue
        found[event.asset_key] = last.timestamp
        newest = instance.get_latest_planned_materialization_info(event.asset_key)
        if not cancelled and newest is not None and newest.run_id == run.run_id:
            plan_again(instance, run, entry, last.run_id)
    repeat_checks(instance, run, found)
    return [key.to_user_string() for key in found]


def plan_again(instance: dg.DagsterInstance, run: dg.DagsterRun, planned: dg.EventLogEntry, made_by: str) -> None:
    """Make the run `made_by` the newest one that has planned the asset of this entry of the failing run's log."""
    event = planned.dagster_event
    assert event is not None
    assert event.asset_key is not None
    again = DagsterEvent(
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
        event.job_name,
        message=f"Run {run.run_id} failed before it started {event.asset_key.to_user_string()}, which stays as"
        " this run has made or reused it.",
        event_specific_data=AssetMaterializationPlannedData(event.asset_key),
        step_key=planned.step_key,
    )
    instance.report_dagster_event(again, made_by)


def repeat_checks(instance: dg.DagsterInstance, run: dg.DagsterRun, assets: Mapping[dg.AssetKey, float]) -> None:
    """Give the planned checks of these assets the result that the version in place has.

    `assets` has the time at which each was materialized. An older result is of another version, and is not repeated.
    """
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED):
        planned = entry.dagster_event and entry.dagster_event.event_specific_data
        key = getattr(planned, "asset_check_key", None)
        if key is None or key.asset_key not in assets:
            continue
        history = instance.event_log_storage.get_asset_check_execution_history
        (newest,) = history(key, limit=1)
        if (newest.run_id, newest.status) != (run.run_id, AssetCheckExecutionRecordStatus.PLANNED):
            continue
        records = history(key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
        for result in (record.event for record in records):
            if result is not None and result.dagster_event and result.timestamp >= assets[key.asset_key]:
                instance.report_dagster_event(result.dagster_event, run.run_id)
