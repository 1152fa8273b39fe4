"""Dagster's default run launcher, extended so that run monitoring can tell whether a run's process is still alive.

Without this, Dagster hears nothing more of a run whose process is killed together with what started it: a command, or
a code server that ran out of memory or was upgraded. Such a run would count as running for ever and block the queue.
With `run_monitoring` in dagster.yaml it is marked as failed within one poll. Two sources answer:

- the tag that each run sets for itself, which names its process by machine, boot, process id and start time;
- the gRPC server that launched the run, where the process belongs to another machine or container. A server that
  was restarted since does not know the run. One call for every run in progress and poll.

A container for every run (`dagster-docker`) is the alternative. It needs the engine's socket, which is root on the
machine. The names from `dagster._core` and `dagster._grpc` below have no public export in Dagster 1.13.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from adc_pipeline.core.processes import has_ended
from adc_pipeline.defs.unstarted import show_as_before
from adc_pipeline.defs.workspace import PROCESS

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient


class WatchfulRunLauncher(DefaultRunLauncher):
    """Launches runs as the default launcher does, and answers whether a run's process is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run; a re-execution inherits its parent's tags, so clear the name of the parent's process."""
        run = context.dagster_run
        if PROCESS in run.tags:
            self._instance.add_run_tags(run.run_id, {PROCESS: ""})
        super().launch_run(context)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the run's process has ended, NOT_FOUND if its server answers and does not know the run.

        RUNNING otherwise: a server that does not answer may be busy or about to be restarted, and the next poll asks
        again. A process that cannot be seen from here may be alive, and must not be failed and started a second time.
        """
        process = run.tags.get(PROCESS)
        if process and has_ended(process):
            # That the run has ended matters more than how its assets look.
            with suppress(Exception):
                show_as_before(self._instance, run)
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The process of the run ({process}) has ended.")
        if GRPC_INFO_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "A command started the run: there is no server to ask.")
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The run has ended.")
        try:
            reply = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "The code location does not answer at the moment.")
        if deserialize_value(reply, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "The code location's server was restarted and no longer has the run's process."
        )
