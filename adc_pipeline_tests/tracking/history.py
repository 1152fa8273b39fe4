"""Fixtures with a history: small artefacts in a real store, each with a real MLflow run, and registered versions."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact, write_making
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass
class History:
    """An artefact store and a tracking database; the ids of runs by the digest of what they made."""

    store: Store
    tracking: Tracking
    runs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def client(self) -> "MlflowClient":
        return self.tracking.client()

    def make(
        self,
        name: str,
        content: str = "",
        inputs: tuple[Artefact, ...] = (),
        settings: dict[str, Any] | None = None,
    ) -> Artefact:
        """Make an artefact with one file in an MLflow run, from `inputs`, in the same order as the pipeline's frame."""
        tags = {"dagster.run_id": f"dagster of {name}", "adc.code_version": f"code of {name}"}
        with self.store.aside(name) as folder, self.tracking.run(name, settings or {}, tags) as run:
            for artefact in inputs:
                run.artefact(artefact, "input")
            (folder / "content").write_text(f"{name}: {content}")
            made = Artefact(
                name=name,
                path=folder,
                digest=folder_digest(folder),
                settings=settings or {},
                inputs={artefact.name: artefact.digest for artefact in inputs},
                counts={"characters": len(content)},
            )
            return self.put(run, folder, made)

    def put(self, run: Run, folder: Path, made: Artefact) -> Artefact:
        placed = Artefact(**{**vars(made), "path": self.store.version_path(made.name, made.digest)})
        run.artefact(placed, "output")
        self.runs.setdefault(made.digest, []).append(run.id)
        write_making(made, {"run": run.id, "address": run.address, "outside": {}})
        return self.store.put(folder, made)

    def register(self, made: Artefact, name: str = "adc-top-2") -> str:
        """Register an artefact as a model, with the newest run that made it; return the version."""
        import mlflow

        # The registry resolves logged models through MLflow's global tracking URI.
        mlflow.set_tracking_uri(self.tracking.uri)
        client = self.client
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        experiment = self.tracking.experiment(client)
        logged = client.create_logged_model(experiment, name, self.runs[made.digest][-1])
        version = client.create_model_version(name, logged.model_uri, self.runs[made.digest][-1])
        return str(version.version)

    def purge(self, made: Artefact) -> None:
        """Delete the runs that made an artefact for good, as `mlflow gc` does."""
        client = self.client
        for run in self.runs[made.digest]:
            client.delete_run(run)
            client._tracking_client.store._hard_delete_run(run)


@dataclass(frozen=True)
class Chain:
    """A model and the artefacts upstream of it."""

    corpus: Artefact
    utterances: Artefact
    dataset: Artefact
    base: Artefact
    model: Artefact

    @property
    def all(self) -> tuple[Artefact, ...]:
        return (self.corpus, self.utterances, self.dataset, self.base, self.model)


def chain(history: History, what: str = "a") -> Chain:
    """Make a model and all artefacts upstream of it; artefacts of different `what` have different contents."""
    corpus = history.make("raw_corpus", what, settings={"corpus": what})
    utterances = history.make("utterances", what, (corpus,))
    dataset = history.make("top_2", what, (utterances,), {"seed": 0})
    base = history.make("base_model", what, (dataset, utterances))
    model = history.make("top_2_model", what, (dataset, base), {"learning_rate": 0.1})
    return Chain(corpus, utterances, dataset, base, model)


def evaluated(history: History, made: Chain, what: str = "a") -> Artefact:
    return history.make("top_2_evaluation", what, (made.model, made.dataset, made.base, made.utterances))


def new_history(home: Path, empty_database: Path) -> History:
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_database, home / "mlflow.db")
    return History(Store(home), Tracking(f"sqlite:///{home / 'mlflow.db'}", (home / "mlflow-artifacts").as_uri()))


@pytest.fixture
def history(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    # Set before it is deleted, so that monkeypatch restores it after the test: `mlflow.set_tracking_uri` sets it too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return new_history(tmp_path / "home", empty_database)
