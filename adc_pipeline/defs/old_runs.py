"""Dagster's old runs: which may go, and how one is removed with its events and its logs.

Dagster keeps the events of every run, and prunes only the ticks of schedules and sensors (`retention` in dagster.yaml).
A run stays while it has not ended, and while Dagster shows something of it as the latest of an asset: the
materialization, or the result of a check, which the champions look at too.

The names from `dagster._core` below have no public export in Dagster 1.13.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES


def old_runs(instance: dg.DagsterInstance, days: float | None, checks: Sequence[dg.AssetCheckKey]) -> list[str]:
    """Return the ids of the runs that may be removed: ended, created more than `days` ago, and shown by no asset.

    None as `days` keeps all runs.
    """
    if days is None:
        return []
    before = datetime.now(UTC) - timedelta(days=days)
    ended = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)
    shown = set(shown_runs(instance, checks))
    return [run for run in instance.get_run_ids(ended) if run not in shown]


def runs_with_excess_logs(instance: dg.DagsterInstance, megabytes: float | None) -> dict[str, int]:
    """Return the ended runs whose steps' output exceeds a limit together with that of newer runs, with its bytes.

    Knows the output that Dagster's local manager keeps as files. None as `megabytes` keeps all.
    """
    # Imports watchdog.
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

    manager = instance.compute_log_manager
    if megabytes is None or not isinstance(manager, LocalComputeLogManager):
        return {}
    found, total = {}, 0
    for run in instance.get_run_ids(dg.RunsFilter(statuses=FINISHED_STATUSES)):
        folder = Path(manager.get_captured_local_path([run, "any"], "out")).parent
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        total += size
        if size and total > megabytes * 1e6:
            found[run] = size
    return found


def shown_runs(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> Iterator[str]:
    """Yield the runs of the latest materialization of every asset and partition, and of the latest result of checks."""
    storage = instance.event_log_storage
    for asset in instance.get_asset_records():
        yield from filter(None, [asset.asset_entry.last_run_id])
        if latest := asset.asset_entry.last_materialization_record:
            yield latest.run_id
        key = asset.asset_entry.asset_key
        ids = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).values()
        if ids:
            wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(ids))
            yield from (record.run_id for record in storage.fetch_materializations(wanted, limit=len(ids)).records)
    for check in storage.get_latest_asset_check_execution_by_key(list(checks)).values():
        yield check.run_id


def remove_run(instance: dg.DagsterInstance, run: str) -> None:
    """Remove a run with its events and the captured output of its steps."""
    # Imports SQLAlchemy, which costs 0.3 s.
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    instance.delete_run(run)
    instance.compute_log_manager.delete_logs(prefix=[run])
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # SQLite keeps a file for each run, which deleting its rows does not shrink.
        Path(storage.path_for_shard(run)).unlink(missing_ok=True)
