"""End runs together with their parents, and find those that a killed process has left running."""

import time
from typing import TYPE_CHECKING

from adc_pipeline.core.processes import has_ended
from adc_pipeline.tracking.tags import ASSET, GROUP, PARENT, PROCESS, STUDY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun


def terminate(client: "MlflowClient", run: str, parent: str, status: str, end: int) -> None:
    """End a run, and with it its parent, which keeps the status of a child that has not finished."""
    client.set_terminated(run, status, end)
    if parent:
        end_parent(client, parent, status, end)


def end_parent(client: "MlflowClient", parent: str, status: str, end: int) -> None:
    """End a parent run anew; it keeps the status of what has not finished before."""
    before = client.get_run(parent)
    # A study goes on: what failed in it is run again.
    keeps = before.info.status != "FINISHED" and not before.data.tags.get(GROUP, "").startswith(STUDY)
    client.set_terminated(parent, before.info.status if keeps else status, max(end, before.info.end_time or 0))


def end_abandoned(client: "MlflowClient", experiment: str, asset: str) -> None:
    """Mark the runs of an asset whose process has ended as KILLED, with their parents; they would stay RUNNING."""
    for run in unfinished_runs(client, experiment, asset):
        if has_ended(run.data.tags.get(PROCESS, "")):
            terminate(client, run.info.run_id, run.data.tags.get(PARENT, ""), "KILLED", int(time.time() * 1000))


def parents(client: "MlflowClient", experiment: str, group: str) -> "list[MlflowRun]":
    """Return the parent run of a group, if there is one."""
    return list(client.search_runs([experiment], f"tags.`{GROUP}` = '{group}'", max_results=1))


def unfinished_runs(client: "MlflowClient", experiment: str, asset: str) -> "list[MlflowRun]":
    """Return the runs of an asset that MLflow takes for running."""
    running = f"tags.`{ASSET}` = '{asset}' AND attributes.status = 'RUNNING'"
    return list(client.search_runs([experiment], running))
