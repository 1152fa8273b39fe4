"""Record every materialization as an MLflow run: settings, inputs and outputs by digest, counts, timings, plots.

The runs of one Dagster run, or of one study, are children of a parent run, so that MLflow lists them as one. An
experiment has a description, and the tag by which MLflow opens it as "Model training". The MLflow client is used
directly, so that several stages may run in one process; only logging a model needs MLflow's global active run
(`generation/registration.py`). A run costs about 0.2 s.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from adc_pipeline.core.atomic import replace_by_link
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.manifests import Artefact
from adc_pipeline.core.processes import has_ended, this_process
from adc_pipeline.core.settings import flattened
from adc_pipeline.tracking import database
from adc_pipeline.tracking.address import accepted, page_address, shown, sqlite_file
from adc_pipeline.tracking.failures import explained
from adc_pipeline.tracking.settings import MlflowSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

# MLflow's own tags.
NOTE, KIND, PARENT = "mlflow.note.content", "mlflow.experimentKind", "mlflow.parentRunId"
TRAINING = "custom_model_development"
# Makes MLflow's page open a link in its view "Model training"; its default is "GenAI".
VIEW = "workflowType=machine_learning"
# Tags that `tracking/lineage.py` searches by.
ASSET, DIGEST = "adc.asset", "adc.digest"
# What the children of a parent run have in common: a Dagster run, or a study.
GROUP = "adc.group"
STUDY = "study"
# The process of a run, so that the next run can detect that it was killed.
PROCESS = "adc.process"
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

        Raises PipelineError if it was deleted, or if its artifact location is in a previous ADC_HOME.
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


@dataclass(frozen=True)
class Run:
    """An MLflow run in progress."""

    client: "MlflowClient"
    id: str
    address: str
    tracking_uri: str
    # What is logged of the artefact as a whole, besides its settings, for `tracking.restoration`.
    logged: dict[str, float] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)

    def describe(self, values: Mapping[str, Any]) -> None:
        """Log facts that are no settings and do not change during the run, such as a model's size, as parameters."""
        self.described.update(values)
        self.parameters(values)

    def note(self, markdown: str) -> None:
        """Write the run's description, which replaces an earlier one."""
        self.noted[NOTE] = markdown
        self.client.set_tag(self.id, NOTE, markdown)

    def parameters(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow accepts 6,000 characters; the artefact's manifest has the full value.
        self.client.log_batch(self.id, params=[Param(key, str(value)[:6000]) for key, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0, model: str | None = None) -> None:
        """Log numbers; `model` is the id of the logged model that they also describe."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step, model_id=model) for key, value in values.items()]
        if not step:
            self.logged.update({key: float(value) for key, value in values.items()})
        self.client.log_batch(self.id, metrics=metrics)

    def artefact(self, artefact: Artefact, context: str, schema: Mapping[str, str] | None = None) -> None:
        """Log an artefact by name and digest; `context` is `input` or `output`, `schema` are types by column."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=artefact.name,
            digest=artefact.digest,
            source_type="local",
            source=json.dumps({"uri": artefact.path.as_uri()}),
            profile=json.dumps(artefact.counts),
            # As MLflow's own datasets write it. A type is the file's, which MLflow's own types cannot all express.
            schema=json.dumps({"mlflow_colspec": [{"name": n, "type": t, "required": True} for n, t in schema.items()]})
            if schema
            else None,
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.id, [DatasetInput(dataset, tags)])
        if context == "output":
            self.client.set_tag(self.id, DIGEST, artefact.digest)

    def file(self, path: Path) -> None:
        """Log a file, or a folder with all it holds. On the same disk, MLflow's copy becomes a hard link."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), path.name)
        else:
            self.client.log_artifact(self.id, str(path))
        share(path, self.client.get_run(self.id).info.artifact_uri)


def share(path: Path, location: str) -> None:
    """Replace MLflow's copies of a file, or of the files in a folder, by hard links, so that the disk has them once.

    `location` is the folder of artifacts that they were logged to. An artifact elsewhere than in a local folder, on
    another disk, or with other content stays.
    """
    if urlsplit(location).scheme not in ("", "file"):
        return
    for original in path.rglob("*") if path.is_dir() else [path]:
        copy = local_path(location) / original.relative_to(path.parent)
        if original.is_file() and copy.is_file():
            replace_by_link(copy, original.resolve())


def artifacts_of(uri: str, file: Path | None, home: Path) -> str | None:
    """Return where the artifacts of a database belong: beside an SQLite file, otherwise in ADC_HOME.

    A server decides by itself.
    """
    if uri.startswith(("http://", "https://")):
        return None
    return ((file.resolve().parent if file else home) / database.ARTIFACTS).as_uri()


def moved_from(location: str, expected: str) -> Path | None:
    """Return the folder of a local artifact location, unless it is the expected one or no local folder."""
    if urlsplit(location).scheme not in ("", "file"):
        return None
    folder, own = local_path(location), local_path(expected)
    # A folder with another name was chosen by a user.
    return None if folder.name != own.name or folder.resolve() == own.resolve() else folder


def local_path(address: str) -> Path:
    """Return the path of a `file:` address, or of a plain path."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(address)
