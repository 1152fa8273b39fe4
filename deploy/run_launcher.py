"""A run launcher with health checks: a run whose container died ends as failed instead of running for ever.

Dagster's default launcher starts a run as a process of the code location's gRPC server, which reports a process that
dies. If the server dies too (out of memory, a new image, a reboot), nothing reports the run, and it blocks the queue.
This launcher lets run monitoring ask the restarted server: a run that the server does not know has ended. Cost: one
gRPC call for every run in progress and poll.

The alternative, a container for every run (`dagster-docker`), needs the container engine's socket, which gives root
access to the host.
"""

from typing import TYPE_CHECKING

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient


class WatchedRunLauncher(DefaultRunLauncher):
    """The default launcher, extended by a check whether a run's process still exists."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return RUNNING if the server has the run's process, and NOT_FOUND if it answers that it has not.

        Return RUNNING also if the server does not answer: it may be busy or restarting, and the next poll asks again.
        A run of `dagster job execute` belongs to no server, and its process is not visible from here: return RUNNING,
        since a live run must not be marked as failed and started a second time.
        """
        if GRPC_INFO_TAG not in run.tags:
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "The run was started by a command, so no server knows its process."
            )
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
