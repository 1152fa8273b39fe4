"""The resource that every asset uses: where the pipeline writes and tracks, how DuckDB runs, and the run's locks."""

import os
from collections.abc import Callable
from contextlib import ExitStack

import dagster as dg
from pydantic import Field, PrivateAttr

from adc_pipeline.core.artefacts import Store
from adc_pipeline.core.claims import Claims
from adc_pipeline.core.engine import MEMORY_LIMIT, Engine
from adc_pipeline.core.processes import this_process
from adc_pipeline.defs.interrupts import interrupts_cancel
from adc_pipeline.defs.origin import is_forgotten, mark_as_run_of_this_location
from adc_pipeline.evaluation.summary import summary
from adc_pipeline.tracking.runs import Tracking

# A tag that each run sets: its process, so that others can tell whether it still runs.
PROCESS = "adc/process"


class Workspace(dg.ConfigurableResource):
    """Where the pipeline writes and tracks (from the environment), and how DuckDB runs."""

    threads: int = Field(default=0, description="Threads of DuckDB; 0 uses every core.")
    memory_limit: str = Field(default=MEMORY_LIMIT, description="Memory DuckDB may use before it spills to disk.")
    wait_seconds: float = Field(
        default=60.0,
        description="How long to wait for another run that makes the same asset in the same ADC_HOME before this run"
        " is refused.",
    )
    _held: ExitStack = PrivateAttr(default_factory=ExitStack)
    _claims: Claims | None = PrivateAttr(default=None)
    _made: dict[str, bool] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its process and prepare to lock what it makes until it ends."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            return
        if instance.get_run_by_id(run.run_id):
            instance.add_run_tags(run.run_id, {PROCESS: this_process()})
            mark_as_run_of_this_location(instance, run.run_id)
            self._held.enter_context(interrupts_cancel(instance, run.run_id))
        if context.log and is_forgotten(instance):
            context.log.info("Dagster keeps no history of this run: use `adc run`, or set DAGSTER_HOME.")
        holder = f"{run.job_name}, run {run.run_id}, process {os.getpid()}"
        self._claims = self._held.enter_context(Claims(self.store.home / "claims", holder))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Release the locks and, after a run without failure, log what it ends with."""
        self._held.close()
        if not self._made or not context.log or failed(context):
            return
        for line in summary(self.store, {name.partition("/")[0] for name in self._made}):
            context.log.info(line)
        if not any(self._made.values()):
            context.log.info(f"Nothing new: all {len(self._made)} assets of this run are up to date.")

    def claim(self, name: str, report: Callable[[str], None]) -> None:
        """Lock an artefact for this run until it ends; PipelineError if another run keeps it too long."""
        if self._claims is not None:
            self._claims.take(name, self.wait_seconds, report)

    @property
    def made(self) -> dict[str, bool]:
        """Of each artefact of this run, whether it was made and not reused."""
        return self._made

    @property
    def engine(self) -> Engine:
        return Engine(self.threads, self.memory_limit)

    @property
    def store(self) -> Store:
        return Store.from_environment()

    @property
    def tracking(self) -> Tracking:
        return Tracking.from_environment(self.store.home)


def failed(context: dg.InitResourceContext) -> bool:
    """Return whether a step of the run has failed."""
    assert context.run is not None
    assert context.instance is not None
    logs = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return bool(logs)
