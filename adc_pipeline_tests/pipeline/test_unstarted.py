"""What a run that ends too early has not made looks as before: after a failure, a cancellation and a kill. 2 s."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus

from adc_pipeline.defs.history import AtomicSqliteStorage
from adc_pipeline.defs.launcher import WatchfulRunLauncher
from adc_pipeline.defs.unstarted import show_as_before
from adc_pipeline.defs.workspace import PROCESS
from adc_pipeline_tests.pipeline.test_interrupts import Listening

FIRST, SECOND = dg.AssetKey("first"), dg.AssetKey("second")
CHECK = dg.AssetCheckKey(SECOND, "good")


class Ending(Listening):
    """As the pipeline's `Workspace`: a signal cancels the run, and what it has not made looks as before."""

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        assert context.instance is not None
        assert context.run is not None
        super().teardown_after_execution(context)
        if context.instance.get_run_stats(context.run.run_id).steps_failed:
            show_as_before(context.instance, context.run)


@dg.asset(config_schema={"end": str})
def first(context: dg.AssetExecutionContext, ending: Ending) -> None:
    if context.op_execution_context.op_config["end"] == "cancel":
        os.kill(os.getpid(), signal.SIGINT)
    if context.op_execution_context.op_config["end"] == "fail":
        raise dg.Failure("by itself")


@dg.asset(deps=[first])
def second() -> None: ...


@dg.asset_check(asset=second)
def good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"rows": 7})


DEFS = dg.Definitions(
    [first, second], asset_checks=[good], resources={"ending": Ending()}, jobs=[dg.define_asset_job("both")]
)


def configured(end: str) -> dict[str, Any]:
    return {"ops": {"first": {"config": {"end": end}}}}


def run(instance: dg.DagsterInstance, end: str = "") -> str:
    job = DEFS.resolve_job_def("both")
    return job.execute_in_process(configured(end), instance=instance, raise_on_error=False).run_id


def planned_last(instance: dg.DagsterInstance, key: dg.AssetKey) -> str:
    found = instance.get_latest_planned_materialization_info(key)
    assert found is not None
    return found.run_id


@pytest.mark.parametrize(
    ("end", "status"), [("cancel", dg.DagsterRunStatus.CANCELED), ("fail", dg.DagsterRunStatus.FAILURE)]
)
def test_the_checks_of_what_was_not_made_keep_their_last_result(end: str, status: dg.DagsterRunStatus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        made = run(instance)
        ended = run(instance, end)
        found = instance.get_run_by_id(ended)
        assert found is not None
        assert found.status is status
        # Dagster shows an asset as failed whose newest planned run has failed.
        assert planned_last(instance, SECOND) == (made if end == "fail" else ended)
        last, before = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=2)
        assert (last.run_id, before.run_id) == (ended, made)
        assert last.status == before.status
        assert last.evaluation == before.evaluation


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Return a run that has started nothing yet, whose process was of a boot before this one."""
    given: dict[str, Any] = {
        "status": dg.DagsterRunStatus.STARTED,
        "tags": {PROCESS: f"{socket.gethostname()} before 1 1"},
    }
    return instance.create_run_for_job(DEFS.resolve_job_def("both"), run_config=configured(""), **given)


def test_a_killed_run_leaves_what_it_had_not_started_as_before() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        made, killed = run(instance), started(instance)
        assert planned_last(instance, SECOND) == killed.run_id
        launcher = WatchfulRunLauncher()
        launcher.register_instance(instance)
        assert launcher.check_run_worker_health(killed).status is WorkerStatus.FAILED
        assert planned_last(instance, SECOND) == made


def test_so_does_one_that_the_code_server_reports_as_killed(tmp_path: Path) -> None:
    storage = {"module": AtomicSqliteStorage.__module__, "class": AtomicSqliteStorage.__name__}
    overrides = {"storage": {"custom": {**storage, "config": {"base_dir": str(tmp_path)}}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides) as instance:
        made, killed = run(instance), started(instance)
        assert planned_last(instance, SECOND) == killed.run_id
        instance.report_run_failed(killed)
        assert planned_last(instance, SECOND) == made
        history = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=9)
        assert {(each.run_id, each.status.value) for each in history} == {
            (killed.run_id, "SUCCEEDED"),
            (made, "SUCCEEDED"),
        }
        # What was done already is not done again.
        assert show_as_before(instance, killed) == []
        planned = instance.all_logs(made, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        assert len(planned) == 4


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
@pytest.mark.parametrize("asked", [True, False])
def test_a_run_cancelled_before_its_first_step_leaves_checks_as_before(
    tmp_path: Path, status: dg.DagsterRunStatus, asked: bool
) -> None:
    storage = {"module": AtomicSqliteStorage.__module__, "class": AtomicSqliteStorage.__name__}
    overrides = {"storage": {"custom": {**storage, "config": {"base_dir": str(tmp_path)}}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides) as instance:
        made = run(instance)
        given: dict[str, Any] = {"status": status, "run_config": configured("")}
        waiting = instance.create_run_for_job(DEFS.resolve_job_def("both"), **given)
        if asked:
            instance.report_run_canceling(waiting)
        instance.report_run_canceled(waiting)
        last, before = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=2)
        assert (last.run_id, before.run_id) == (waiting.run_id, made)
        assert last.status == before.status
        assert planned_last(instance, SECOND) == waiting.run_id
