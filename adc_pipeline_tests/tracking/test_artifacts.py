"""Artifacts never depend on the working directory, however MLflow's address is spelled."""

import shutil
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.tracking.intact import is_intact
from adc_pipeline.tracking.runs import Tracking, local_path


@pytest.fixture
def team(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a team's database, the working directory being another."""
    for name in ("team", "somewhere", "home"):
        (tmp_path / name).mkdir()
    shutil.copy(empty_database, tmp_path / "team" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "somewhere")
    return tmp_path / "team"


@pytest.mark.fast_first
@pytest.mark.parametrize("address", ["sqlite:///{team}/mlflow.db", "sqlite:///../team/mlflow.db"])
def test_artifacts_of_a_database_lie_beside_it(team: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(team=team))
    tracking = Tracking.from_environment(team.parent / "home")
    with tracking.run("top_2", {}, {}) as run:
        (team / "note.txt").write_text("a note")
        run.client.log_artifact(run.id, str(team / "note.txt"))
        artifacts = run.client.get_run(run.id).info.artifact_uri
    assert (team / "mlflow-artifacts").resolve().as_uri() in artifacts
    assert list((team.parent / "somewhere").iterdir()) == []


def test_artifacts_of_a_server_of_databases_lie_in_adc_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1/mlflow")
    assert Tracking.from_environment(tmp_path).artifacts == (tmp_path / "mlflow-artifacts").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Tracking.from_environment(tmp_path).artifacts is None


@pytest.mark.parametrize(
    ("location", "sentence"), [("./mlruns/1", "depends on the working"), ("/no/such/mlruns", "does not exist on this")]
)
def test_an_experiment_whose_artifacts_have_no_place_is_refused(
    team: Path, location: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team / 'mlflow.db'}")
    tracking = Tracking.from_environment(team.parent / "home")
    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.resolve_uri_if_local", lambda uri: uri)
    tracking.client().create_experiment("adc", artifact_location=location)
    with pytest.raises(PipelineError, match=sentence):
        tracking.check()


def test_an_experiment_that_somebody_keeps_elsewhere_is_used(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team / 'mlflow.db'}")
    (team / "shared").mkdir()
    tracking = Tracking.from_environment(team.parent / "home")
    tracking.client().create_experiment("adc", artifact_location=(team / "shared").as_uri())
    tracking.check()


def test_what_is_missing_in_a_database_is_seen_without_mlflow(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team / 'mlflow.db'}")
    tracking = Tracking.from_environment(team.parent / "home")
    (team / "note.txt").write_text("a note")
    with tracking.run("top_2", {}, {}) as run:
        run.file(team / "note.txt")
        record = {"run": run.id, "address": run.address, "artifacts": {"note.txt": "note.txt"}}
        # It has not ended.
        assert not is_intact(tracking, record)
    client, experiment = run.client, run.client.get_run(run.id).info.experiment_id
    artifacts = local_path(client.get_run(run.id).info.artifact_uri)
    assert is_intact(tracking, record)
    for change, back in (
        (lambda: client.delete_run(run.id), lambda: client.restore_run(run.id)),
        (lambda: client.rename_experiment(experiment, "old"), lambda: client.rename_experiment(experiment, "adc")),
        (lambda: client.delete_experiment(experiment), lambda: client.restore_experiment(experiment)),
        (lambda: artifacts.rename(team / "away"), lambda: (team / "away").rename(artifacts)),
        (lambda: (team / "mlflow.db-journal").touch(), lambda: (team / "mlflow.db-journal").unlink()),
    ):
        change()
        assert not is_intact(tracking, record)
        back()
        assert is_intact(tracking, record)
    assert not is_intact(tracking, {**record, "address": "http://elsewhere"})
    assert not is_intact(tracking, {**record, "run": "gone"})
    (team / "mlflow.db").write_bytes(b"no database")
    assert not is_intact(tracking, record)
