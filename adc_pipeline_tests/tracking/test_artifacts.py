"""Artifacts never depend on the working directory, however MLflow's address is spelled."""

import shutil
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.manifests import Artefact, write_making
from adc_pipeline.tracking.artifacts import local_path
from adc_pipeline.tracking.intact import is_intact
from adc_pipeline.tracking.restoration import restored_run
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import ASSET, DIGEST, NOTE, PARENT


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


def test_tags_and_the_parent_of_a_run_are_brought_back(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team / 'mlflow.db'}")
    tracking, made = Tracking.from_environment(team.parent / "home"), Artefact("top_2", team, "0" * 32)
    tags = {"adc.stage": "walks", "mlflow.user": "ann"}
    above = tracking.parent("job", "job", {})
    with tracking.run("top_2", {}, tags, above) as run:
        run.artefact(made, "output")
        run.note("a description")
    write_making(made, {"run": run.id, "address": run.address, "outside": {}, "tags": run.noted})
    client, before = run.client, run.client.get_run(run.id).data.tags

    def restored() -> dict[str, str]:
        restored_run(tracking, made, {}, {**tags, "mlflow.user": "bob"}, print, parent=lambda: "another")
        return dict(client.get_run(run.id).data.tags)

    for name in (ASSET, DIGEST, NOTE, "adc.stage"):
        client.delete_tag(run.id, name)
    client.delete_run(above)
    assert restored() == before
    assert client.get_run(above).info.lifecycle_stage == "active"
    client.set_tag(run.id, DIGEST, "edited")
    client.set_tag(run.id, NOTE, "somebody's words")
    client.delete_run(above)
    client._tracking_client.store._hard_delete_run(above)
    assert restored() == {**before, NOTE: "somebody's words", PARENT: "another"}


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
    made = Artefact("top_2", team, "0" * 32)
    with tracking.run("top_2", {}, {}, tracking.parent("job", "job", {})) as run:
        run.file(team / "note.txt")
        run.artefact(made, "output")
        run.note("a description")
        record = {"run": run.id, "address": run.address, "artifacts": {"note.txt": "note.txt"}, "tags": run.noted}
        # It has not ended.
        assert not is_intact(tracking, made, record)
    client, experiment = run.client, run.client.get_run(run.id).info.experiment_id
    parent = client.get_run(run.id).data.tags[PARENT]
    artifacts = local_path(client.get_run(run.id).info.artifact_uri)
    assert is_intact(tracking, made, record)
    for change, back in (
        (lambda: client.delete_run(run.id), lambda: client.restore_run(run.id)),
        (lambda: client.rename_experiment(experiment, "old"), lambda: client.rename_experiment(experiment, "adc")),
        (lambda: client.delete_experiment(experiment), lambda: client.restore_experiment(experiment)),
        (lambda: artifacts.rename(team / "away"), lambda: (team / "away").rename(artifacts)),
        (lambda: client.delete_tag(run.id, ASSET), lambda: client.set_tag(run.id, ASSET, made.name)),
        (lambda: client.set_tag(run.id, DIGEST, "x"), lambda: client.set_tag(run.id, DIGEST, made.digest)),
        (lambda: client.delete_tag(run.id, NOTE), lambda: run.note("a description")),
        (lambda: client.delete_run(parent), lambda: client.restore_run(parent)),
        (lambda: (team / "mlflow.db-journal").touch(), lambda: (team / "mlflow.db-journal").unlink()),
    ):
        change()
        assert not is_intact(tracking, made, record)
        back()
        assert is_intact(tracking, made, record)
    assert not is_intact(tracking, made, {**record, "address": "http://elsewhere"})
    assert not is_intact(tracking, made, {**record, "run": "gone"})
    (team / "mlflow.db").write_bytes(b"no database")
    assert not is_intact(tracking, made, record)
