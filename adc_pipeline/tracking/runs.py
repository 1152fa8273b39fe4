"""Every materialization as an MLflow run: settings, inputs and outputs by digest, counts, timings, plots.

The MLflow client is used directly, so that several stages may run in one process; only logging a model
needs MLflow's global active run (`models.py`). Creating the database on first use costs about 6 s, a run about 0.2 s.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.artefacts import Artefact
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.picture import png
from adc_pipeline.core.processes import has_ended, this_process
from adc_pipeline.core.settings import flattened

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

EXPERIMENT = "adc"
# Tags by which lineage finds its way; `tracking/lineage.py` reads what is written here.
ASSET, DIGEST = "adc.asset", "adc.digest"
# Which process a run is, so that the next one can tell that it was killed.
PROCESS = "adc.process"


@dataclass(frozen=True)
class Tracking:
    """One MLflow tracking server or database, and where its artifacts go when that is ours to say."""

    uri: str
    artifacts: str | None = None
    pages: str = ""

    @classmethod
    def from_environment(cls, home: Path) -> "Tracking":
        """`MLFLOW_TRACKING_URI`, or sqlite and a folder of artifacts below `home`.

        `ADC_MLFLOW_PAGES` is where people open MLflow's pages, if that is another address than the pipeline's.
        """
        uri, pages = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get("ADC_MLFLOW_PAGES", "")
        if uri:
            return cls(without_secrets(uri), pages=pages)
        return cls(f"sqlite:///{home / 'mlflow.db'}", (home / "mlflow-artifacts").as_uri(), pages)

    def client(self) -> "MlflowClient":
        # MLflow reports usage to its makers unless told otherwise; a pipeline has no business doing so.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        from mlflow import MlflowClient

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(self.uri)

    def experiment(self, client: "MlflowClient") -> str:
        """The id of the experiment `adc`, made on first use."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return client.create_experiment(EXPERIMENT, artifact_location=self.artifacts)
            except MlflowException:
                # Another process was first.
                found = client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        return found.experiment_id

    def check(self) -> None:
        """Raise PipelineError if nothing answers at the tracking address; for a server, within seconds."""
        try:
            client = self.client()
            if self.uri.startswith(("http://", "https://")):
                from mlflow.utils.credentials import get_default_host_creds
                from mlflow.utils.rest_utils import http_request

                # Once, where the client would try for minutes; a server's /health says nothing of its database.
                place, asked = get_default_host_creds(self.uri), {"experiment_name": EXPERIMENT}
                path = "/api/2.0/mlflow/experiments/get-by-name"
                answer = http_request(place, path, "GET", max_retries=0, timeout=5, params=asked)
                if answer.status_code != 404:
                    answer.raise_for_status()
            self.experiment(client)
        except Exception as error:
            raise PipelineError(
                f"MLflow does not answer at MLFLOW_TRACKING_URI = {without_password(self.uri)}"
                f" ({type(error).__name__}): start it, or unset the variable to use a database in ADC_HOME."
            ) from error

    def has_run(self, run: str) -> bool:
        """Whether a run is there that has finished and was not deleted since; PipelineError if MLflow cannot say."""
        from mlflow.exceptions import MlflowException

        self.check()
        try:
            found = self.client().get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise PipelineError(
                f"MLflow at {self.shown} could not be asked for the run {run} ({error.error_code}): see its server's"
                " log."
            ) from error
        return bool(found.info.lifecycle_stage == "active" and found.info.status == "FINISHED")

    @property
    def shown(self) -> str:
        """The address as it may stand in a sentence."""
        return without_password(self.uri)

    def run_address(self, experiment: str, run: str) -> str:
        """Where the run stands in MLflow's pages; a database has them wherever `mlflow ui` serves it."""
        base = self.pages or (self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000")
        return f"{base.rstrip('/')}/#/experiments/{experiment}/runs/{run}"

    @contextmanager
    def run(self, asset: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator["Run"]:
        """An MLflow run for the materialization of `asset`; FAILED if the block raises."""
        client = self.client()
        experiment = self.experiment(client)
        end_abandoned(client, experiment, asset)
        made = client.create_run(experiment, run_name=asset, tags={ASSET: asset, PROCESS: this_process(), **tags})
        run = Run(client, made.info.run_id, self.run_address(experiment, made.info.run_id), self.uri)
        started = time.monotonic()

        def end() -> int:
            # Not the time of day, by which a run would last a day, or less than nothing, after a jump of the clock.
            return int(made.info.start_time + (time.monotonic() - started) * 1000)

        try:
            run.parameters(flattened(settings))
            yield run
            run.metrics({"seconds": time.monotonic() - started})
        except BaseException:
            # What went wrong first is what the user has to read.
            with suppress(Exception):
                client.set_terminated(run.id, "FAILED", end())
            raise
        client.set_terminated(run.id, "FINISHED", end())


def end_abandoned(client: "MlflowClient", experiment: str, asset: str) -> None:
    """Mark those runs of an asset as KILLED whose process is gone: nobody else will, and they would run for ever."""
    running = f"tags.`{ASSET}` = '{asset}' AND attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], running):
        if has_ended(run.data.tags.get(PROCESS, "")):
            client.set_terminated(run.info.run_id, "KILLED")


@dataclass(frozen=True)
class Run:
    """A run in progress."""

    client: "MlflowClient"
    id: str
    address: str
    tracking_uri: str

    def parameters(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow takes 6,000 characters; the artefact's manifest has the whole value.
        self.client.log_batch(self.id, params=[Param(key, str(value)[:6000]) for key, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0, model: str | None = None) -> None:
        """Log numbers; `model` is the id of the logged model that they also describe."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step, model_id=model) for key, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def artefact(self, artefact: Artefact, context: str) -> None:
        """Log an artefact by name and digest; `context` is `input` or `output`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=artefact.name,
            digest=artefact.digest,
            source_type="local",
            source=json.dumps({"uri": artefact.path.as_uri()}),
            profile=json.dumps(artefact.counts),
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.id, [DatasetInput(dataset, tags)])
        if context == "output":
            self.client.set_tag(self.id, DIGEST, artefact.digest)

    def figure(self, figure: "Figure", name: str) -> bytes:
        """Log a figure as a PNG and return it; rendering takes a second or so, so it is done once."""
        image = png(figure)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            file.write_bytes(image)
            self.client.log_artifact(self.id, str(file))
        return image

    def files(self, folder: Path) -> None:
        self.client.log_artifacts(self.id, str(folder))


def without_secrets(address: str) -> str:
    """A server's address without the user and password in it, which go where MLflow looks for them.

    MLflow prints addresses, and puts them into errors, as they are.
    """
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(address)
    if not address.startswith("http") or "@" not in parts.netloc:
        return address
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(name)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


def without_password(address: str) -> str:
    """A database's address as it may stand in a sentence."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(address)
    if parts.password is None:
        return address
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))
