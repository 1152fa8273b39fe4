"""Dagster's own run launcher, which can also tell whether the process of a run still lives.

Of a run that was started by `dagster job execute` and killed, or by a code server that was killed with it, Dagster
hears nothing more: it would count as running for ever, and stand in the way of every queued run. Named in
dagster.yaml together with run monitoring, this has such a run marked as failed within the monitor's interval.
"""

from dagster._core.launcher import DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun

from adc_pipeline.core.processes import has_ended
from adc_pipeline.defs.workspace import PROCESS


class WatchfulRunLauncher(DefaultRunLauncher):
    """Launches as the default one does, and knows a run's process by the tag that the run sets itself."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        process = run.tags.get(PROCESS)
        if process and has_ended(process):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"The process of the run ({process}) has ended.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
