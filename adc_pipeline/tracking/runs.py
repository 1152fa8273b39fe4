"""Record every materialization as an MLflow run: settings, inputs and outputs by digest, counts, timings, plots.

The runs of one Dagster run, or of one study, are children of a parent run, so that MLflow lists them as one. An
experiment has a description, and the tag by which MLflow opens it as "Model training". The MLflow client is used
directly, so that several stages may run in one process; only logging a model needs MLflow's global active run
(`generation/registration.py`). A run costs about 0.2 s.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.processes import this_process
from adc_pipeline.core.settings import flattened
from adc_pipeline.tracking import database
from adc_pipeline.tracking.address import accepted, page_address, shown, sqlite_file
from adc_pipeline.tracking.artifacts import artifacts_of, local_path, moved_from
from adc_pipeline.tracking.failures import explained
from adc_pipeline.tracking.parents import end_abandoned, end_parent, parents, terminate, unfinished_runs
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.settings import MlflowSettings
from adc_pipeline.tracking.tags import ASSET, GROUP, KIND, NOTE, PARENT, PROCESS, TRAINING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

# Makes MLflow's page open a link in its view "Model training"; its default is "GenAI".
VIEW = "workflowType=machine_learning"
VARIABLE = "MLFLOW_TRACKING_URI"
DESCRIPTION = """\
Every artefact of adc_pipeline is one run, named by its Dagster asset; the runs of one job are grouped below a parent.

- **How good are the models?** The newest run `comparison`: its description has the verdict, its artifacts have
  `report.html`. One model alone: the runs `..._evaluation`. Filter both by ``tags.`adc.stage` = 'evaluation'``.
- **What was a model made from?** *Models* lists the registered versions. The description of a version has its lineage,
  down to the digest of the corpus.
- **What was trained, and how?** The runs `..._model` have the settings as parameters and the loss by step.

A run's metrics are its headline figures; all figures are in its artifact `metrics.json`.
"""


@dataclass(frozen=True)
class Tracking:
    """One MLflow server or database. `artifacts` is where its artifacts belong; None: a server decides.

    `variable` is the setting that gave the address; empty for the database in ADC_HOME. Messages use `shown`, since
    `uri` may contain a password.
    """

    uri: str = field(repr=False)
    artifacts: str | None = None
    pages: str = ""
    variable: str = VARIABLE
    names: MlflowSettings = field(default_factory=MlflowSettings)

    @classmethod
    def from_environment(cls, home: Path, names: MlflowSettings | None = None) -> "Tracking":
        """Return the tracking of `MLFLOW_TRACKING_URI`, or SQLite and a folder of artifacts below `home`.

        `ADC_MLFLOW_PAGES` is the address of MLflow's pages for users, if it differs from the pipeline's.
        """
        pages = os.environ.get("ADC_MLFLOW_PAGES", "")
        if pages:
            pages = page_address(pages, "ADC_MLFLOW_PAGES")
        names = names or MlflowSettings()
        own, uri = home / database.DATABASE, os.environ.get(VARIABLE)
        file = sqlite_file(uri) if uri else own
        # The variable may also name the database in ADC_HOME, since the `mlflow` command needs it to be set.
        if uri and (file is None or file.resolve() != own.resolve()):
            return cls(accepted(uri, VARIABLE), artifacts_of(uri, file, home), pages, names=names)
        return cls(f"sqlite:///{own}", (home / database.ARTIFACTS).as_uri(), pages, "", names)

    @property
    def shown(self) -> str:
        """Return the address for messages, without a password."""
        return shown(self.uri)

    def client(self) -> "MlflowClient":
        """Return a client; an SQLite database is created, or upgraded, first."""
        # MLflow sends usage telemetry unless this is set.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # MLflow prints the address of a run with the whole tracking address.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        import logging

        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        # Their warnings of a retry repeat the path or the user of the address; the last error becomes a sentence.
        for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)
        file = sqlite_file(self.uri)
        if file is None:
            if urlsplit(self.uri).scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
                database.refuse_other_tables(self.uri, self.shown)
            return MlflowClient(self.uri)
        # MLflow's first client also inserts rows, which two processes must not do concurrently.
        with database.prepared(file):
            return MlflowClient(self.uri)

    def experiment(self, client: "MlflowClient") -> str:
        """Return the id of the experiment, which is created and described on first use.

        Raises PipelineError if the experiment was deleted, or keeps its artifacts in a previous ADC_HOME.
        """
        from mlflow.exceptions import MlflowException

        name, tags = self.names.experiment, {KIND: TRAINING, NOTE: DESCRIPTION}
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return client.create_experiment(name, artifact_location=self.artifacts, tags=tags)
            except MlflowException:
                # Another process has just created it.
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise PipelineError(
                f"MLflow's experiment {name} at {self.shown} is deleted: restore it by"
                f" `mlflow experiments restore --experiment-id {found.experiment_id}` with this address as {VARIABLE}."
            )
        if not self.variable and self.artifacts and (before := moved_from(found.artifact_location, self.artifacts)):
            raise PipelineError(
                f"ADC_HOME was moved or copied: MLflow's artifacts belong to {before}, not to"
                f" {local_path(self.artifacts)}. Run `adc relocate`, which corrects the addresses in its database."
            )
        self.check_artifacts(found.artifact_location)
        for key in tags.keys() - found.tags.keys():
            client.set_experiment_tag(found.experiment_id, key, tags[key])
        return found.experiment_id

    def check_artifacts(self, location: str) -> None:
        """Raise PipelineError if an experiment's artifacts would go to a folder that is not there.

        MLflow itself chooses ./mlruns of the directory in which an experiment was created, and never another again.
        """
        if not self.artifacts or urlsplit(location).scheme not in ("", "file"):
            return
        folder = local_path(location)
        if folder == local_path(self.artifacts):
            folder.mkdir(parents=True, exist_ok=True)
        if not (folder.is_absolute() and folder.is_dir()):
            wrong = "does not exist on this machine" if folder.is_absolute() else "depends on the working directory"
            raise PipelineError(
                f"MLflow's experiment {self.names.experiment} at {self.shown} keeps its artifacts in {folder}, which"
                f" {wrong}: bring that folder back, or rename the experiment (`mlflow experiments rename`), so that the"
                " next run creates one that keeps them elsewhere."
            )

    def check(self) -> None:
        """Raise PipelineError unless MLflow answers and takes runs; for a server, within seconds."""
        with explained(self.uri, self.variable):
            client = self.client()
            if self.uri.startswith(("http://", "https://")):
                from mlflow.utils.credentials import get_default_host_creds
                from mlflow.utils.rest_utils import http_request

                # Try once, since the client would retry for minutes. A server's /health does not check its database.
                place, asked = get_default_host_creds(self.uri), {"experiment_name": self.names.experiment}
                path = "/api/2.0/mlflow/experiments/get-by-name"
                answer = http_request(place, path, "GET", max_retries=0, timeout=5, params=asked)
                if answer.status_code != 404:
                    answer.raise_for_status()
            self.experiment(client)

    def find_run(self, run: str) -> "MlflowRun | None":
        """Return what MLflow knows of a run, which may be deleted or unfinished; None if it is gone."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client().get_run(run) if run else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def run_address(self, experiment: str, run: str) -> str:
        """Return the address of a run's page; the pages of a database are wherever `mlflow ui` serves them."""
        base = self.pages or (self.shown if self.uri.startswith("http") else "http://127.0.0.1:5000")
        return f"{base.rstrip('/')}/#/experiments/{experiment}/runs/{run}?{VIEW}"

    def model_name(self, kind: str) -> str:
        """Return the name under which a kind's models are registered."""
        return f"{self.names.model_prefix}-{kind}"

    def parent(self, name: str, group: str, tags: Mapping[str, str]) -> str:
        """Return the id of the parent run of a group, created on first use.

        It is finished from the start, since several processes may make children of it, and any may be killed. Each
        child that ends moves its end, and one that fails makes it FAILED; what ends a job outside of them, `end_group`.
        """
        client = self.client()
        experiment = self.experiment(client)
        if found := parents(client, experiment, group):
            return str(found[0].info.run_id)
        made = client.create_run(experiment, run_name=name, tags={GROUP: group, **tags})
        client.set_terminated(made.info.run_id, "FINISHED", made.info.start_time)
        return str(made.info.run_id)

    def end_group(self, group: str, status: str) -> None:
        """Give the parent run of a group the status of a job that has failed or was cancelled; without one, nothing."""
        client = self.client()
        for run in parents(client, self.experiment(client), group):
            end_parent(client, run.info.run_id, status, int(time.time() * 1000))

    @contextmanager
    def run(
        self, asset: str, settings: Mapping[str, Any], tags: Mapping[str, str], parent: str = ""
    ) -> Iterator["Run"]:
        """Yield an MLflow run for the materialization of `asset`; it ends as FAILED if the block raises."""
        client = self.client()
        experiment = self.experiment(client)
        end_abandoned(client, experiment, asset)
        tags = {ASSET: asset, PROCESS: this_process(), **({PARENT: parent} if parent else {}), **tags}
        try:
            made = client.create_run(experiment, run_name=asset, tags=tags)
        except BaseException:
            # An interrupt may come when MLflow has the run already, whose id is not known here.
            with suppress(Exception):
                for left in unfinished_runs(client, experiment, asset):
                    if left.data.tags.get(PROCESS) == tags[PROCESS]:
                        terminate(client, left.info.run_id, parent, "KILLED", left.info.start_time)
            raise
        run = Run(client, made.info.run_id, self.run_address(experiment, made.info.run_id), self.uri)
        started = time.monotonic()

        def end() -> int:
            # A monotonic clock, since a jump of the system clock would make the duration wrong or negative.
            return int(made.info.start_time + (time.monotonic() - started) * 1000)

        try:
            run.parameters(flattened(settings))
            yield run
            run.metrics({"seconds": time.monotonic() - started})
        except BaseException as error:
            # Show the first error, not one that follows from it. An interrupt is no Exception.
            with suppress(Exception):
                terminate(client, run.id, parent, "FAILED" if isinstance(error, Exception) else "KILLED", end())
            raise
        terminate(client, run.id, parent, "FINISHED", end())
