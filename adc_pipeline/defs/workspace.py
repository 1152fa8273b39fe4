"""The resource that every asset uses: where the pipeline writes and tracks, how DuckDB runs, and the run's locks."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from adc_pipeline.core.ahead import Begun
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import first_line
from adc_pipeline.core.log_forwarding import forwarded
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.processes import this_process
from adc_pipeline.core.run_configuration import configured
from adc_pipeline.core.settings import Settings, declared
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.claims import Claims
from adc_pipeline.defs.database import DATABASE, renew_database
from adc_pipeline.defs.interrupts import interrupts_cancel, woken
from adc_pipeline.defs.origin import is_forgotten, mark_as_run_of_this_location
from adc_pipeline.defs.unstarted import show_as_before
from adc_pipeline.defs.workspace_settings import ShardSettings, WorkspaceSettings
from adc_pipeline.evaluation.presentation.summary import command, summary
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.settings import MlflowSettings

# A tag that each run sets: its process, so that others can tell whether it still runs. Dagster's pages hide it.
PROCESS = ".dagster/adc/process"
CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def rebuilt_or_reused(made: Mapping[str, str | None]) -> str:
    """Return one line on a run: what was rebuilt, what for, and how much was reused."""
    rebuilt = {name: why for name, why in made.items() if why is not None}
    if not rebuilt:
        return f"Nothing new: all {len(made)} assets of this run are up to date."
    by_reason: dict[str, list[str]] = {}
    for name, why in rebuilt.items():
        by_reason.setdefault(why, []).append(name)
    named = "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
    return f"{len(rebuilt)} rebuilt, {len(made) - len(rebuilt)} reused. Rebuilt: {named}."


def shown(kind: type[Settings], name: str) -> Any:
    """Return a setting as a field of a resource."""
    each = declared(kind)[name]
    return Field(default=each.default, description=each.help)


class Mlflow(dg.ConfigurableResource):
    """The names of the pipeline's experiment and models in MLflow.

    It tells Dagster what a run configuration may hold. `Workspace`, which every asset uses, reads the values there.
    """

    # Of any type for Dagster; see `run_config`.
    experiment: Any = shown(MlflowSettings, "experiment")
    model_prefix: Any = shown(MlflowSettings, "model_prefix")


class Shards(dg.ConfigurableResource):
    """Where the shards of a corpus are processed. `Workspace` reads the value from the run configuration."""

    # Of any type for Dagster; see `run_config`.
    executor: Any = shown(ShardSettings, "executor")


class Training(dg.ConfigurableResource):
    """Where trainings run. `Workspace` reads the values from the run configuration."""

    # Of any type for Dagster; see `run_config`.
    executor: Any = shown(Placement, "executor")
    cpus: Any = shown(Placement, "cpus")
    gpus: Any = shown(Placement, "gpus")


class Workspace(dg.ConfigurableResource):
    """Where the pipeline writes and tracks (from the environment), and how DuckDB runs."""

    # Of any type for Dagster; see `run_config`.
    threads: Any = shown(WorkspaceSettings, "threads")
    memory_limit: Any = shown(WorkspaceSettings, "memory_limit")
    wait_seconds: Any = shown(WorkspaceSettings, "wait_seconds")
    volume_change: Any = shown(WorkspaceSettings, "volume_change")
    _held: ExitStack = PrivateAttr(default_factory=ExitStack)
    _claims: Claims | None = PrivateAttr(default=None)
    _made: dict[str, str | None] = PrivateAttr(default_factory=dict)
    _begun: dict[str, Begun | None] = PrivateAttr(default_factory=dict)
    _run_config: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its process and prepare to lock what it makes until it ends."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            return
        self._run_config = run.run_config
        if instance.get_run_by_id(run.run_id):
            instance.add_run_tags(run.run_id, {PROCESS: this_process()})
        mark_as_run_of_this_location(instance, run.run_id)
        if is_forgotten(instance) and context.log:
            context.log.warning(
                "Dagster forgets this run when the command ends. To see it in Dagster's page, start it by"
                f" `{command('run')} {run.job_name}`, or set DAGSTER_HOME to a folder with a dagster.yaml."
            )
        if log := context.log:
            self._held.enter_context(forwarded(lambda record: log.log(record.levelno, record.getMessage())))
        self._held.enter_context(interrupts_cancel(instance, run.run_id))
        holder = f"{run.job_name}, run {run.run_id}, process {os.getpid()}"
        self._claims = self._held.enter_context(Claims(self.store.home / "claims", holder))
        self._held.callback(self.end_begun)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self.end_in_mlflow(context)
        self._held.close()
        self.renew_views(context)
        if not context.log or not context.instance or not context.run:
            return
        if context.instance.get_run_stats(context.run.run_id).steps_failed:
            show_as_before(context.instance, context.run)
            return
        if not self._made:
            return
        context.log.info(rebuilt_or_reused(self._made))
        if lines := summary(self.store, self._made):
            context.log.info("\n".join(lines))

    def end_in_mlflow(self, context: dg.InitResourceContext) -> None:
        """Let MLflow's run of the job say that it was cancelled or failed, also where none of its children did."""
        # Before an asset has a reason to be made, MLflow has no run of this job.
        if not (context.run and context.instance and any(self._made.values())):
            return
        run = context.instance.get_run_by_id(context.run.run_id)
        cancelled = woken() or (run is not None and run.status in CANCELLED)
        if cancelled or context.instance.get_run_stats(context.run.run_id).steps_failed:
            # The run has ended, and its own sentence matters more than one about MLflow.
            with suppress(Exception):
                # The client alone would ask an MLflow that does not answer for minutes.
                self.tracking.check()
                self.tracking.end_group(context.run.run_id, "KILLED" if cancelled else "FAILED")

    def renew_views(self, context: dg.InitResourceContext) -> None:
        """Rewrite the views of `adc.duckdb` if the run made a table: once, since it takes a tenth of a second."""
        try:
            unreadable = renew_database(self.store, self._made)
            if unreadable and context.log:
                context.log.warning(
                    f"{DATABASE} does not show {' and '.join(unreadable)}, whose files are gone or damaged: make them"
                    f" again, as by `adc run {' '.join(unreadable)}`."
                )
        # The tables are in place, and other steps may have failed for the same reason.
        except Exception as error:
            if context.log:
                context.log.warning(f"{DATABASE} could not be rewritten: {first_line(error)}.")

    def end_begun(self) -> None:
        """End what was started ahead and still runs, all at once."""
        running = [work for work in self._begun.values() if work]
        for work in running:
            work.interrupt()
        for work in running:
            work.close()

    def claim(self, name: str, report: Callable[[str], None], wait: bool = True) -> None:
        """Lock an artefact for this run until it ends; PipelineError if another run keeps it too long."""
        if self._claims is not None:
            self._claims.take(name, self.settings.wait_seconds if wait else 0.0, report)

    @property
    def made(self) -> dict[str, str | None]:
        """Of each artefact of this run, why it was made; None if it was reused."""
        return self._made

    @property
    def begun(self) -> dict[str, Begun | None]:
        """What was started ahead of its step, by artefact; None where nothing could be."""
        return self._begun

    @property
    def settings(self) -> WorkspaceSettings:
        values = {name: getattr(self, name) for name in declared(WorkspaceSettings)}
        return read_settings(WorkspaceSettings, values, "workspace")

    @property
    def engine(self) -> Engine:
        given = read_settings(ShardSettings, configured(self._run_config, "resources", "shards"), "shards")
        return Engine(self.settings.threads, self.settings.memory_limit, executor=given.executor)

    @property
    def placement(self) -> Placement:
        """Where trainings run."""
        return read_settings(Placement, configured(self._run_config, "resources", "training"), "training")

    @property
    def store(self) -> Store:
        return Store.from_environment()

    @property
    def tracking(self) -> Tracking:
        given = configured(self._run_config, "resources", "mlflow")
        return Tracking.from_environment(self.store.home, read_settings(MlflowSettings, given, "mlflow"))
