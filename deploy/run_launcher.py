"""Runs in the code location's container, watched: a run whose container died ends as failed, not as running for ever.

Dagster's own default launcher starts a run as a process of the code location's gRPC server, which reports a process
that dies. If the server dies too (out of memory, a new image, a reboot), nobody is left to report it, and the run
would keep its place in the queue. This launcher lets run monitoring ask the server that was started since: a run
that it does not know is gone. A question costs one call over gRPC for every run in progress and poll.

The alternative, a container for every run (`dagster-docker`), needs the engine's socket, which is root on the machine.
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
    """The default launcher, of which run monitoring can ask whether a run's process is still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """RUNNING if the server has the run's process, NOT_FOUND if it answers and has not.

        A server that does not answer may be busy, or about to be restarted: RUNNING, and the next poll asks again.
        A run of `dagster job execute` is no server's, and its process cannot be seen from here: RUNNING, since one that
        lives must not be failed and started a second time.
        """
        if GRPC_INFO_TAG not in run.tags:
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "The run is a command's, of which no server can be asked."
            )
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The run has ended.")
        try:
            reply = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "The code location does not answer just now.")
        if deserialize_value(reply, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "The code location's server was started anew and no longer has the run's process."
        )
