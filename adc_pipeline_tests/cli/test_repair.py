"""`adc repair` replaces damaged databases, restores what the store has, and reports what is lost."""

import os
import sqlite3
import subprocess
import sys
from collections import OrderedDict
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from adc_pipeline.cli import repair as repairing
from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.cli.repair import fault, lacking_in_mlflow, repair
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import content_digest, scan
from adc_pipeline.core.store.manifests import Artefact, read_making, write_making
from adc_pipeline.tracking.database import prepared
from adc_pipeline.tracking.runs import Tracking


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store with one artefact, recorded by MLflow."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    store = Store(tmp_path / "home")
    tracking = Tracking.from_environment(store.home)
    tags = {"dagster.asset_key": "top_2", "adc.code_version": ""}
    with store.aside("top_2") as folder, tracking.run("top_2", {"seed": 1}, tags) as run:
        (folder / "data.txt").write_text("walks")
        files = scan(folder)
        made = Artefact("top_2", folder, content_digest(files), {"seed": 1}, counts={"walks": 3}, files=files)
        run.artefact(made, "output")
        write_making(made, {"run": run.id, "address": run.address, "outside": {}, "metrics": {"walks": 3.0}})
        store.put(folder, made)
    return store


def repaired(store: Store) -> list[str]:
    messages: list[str] = []
    repair(store, messages.append)
    return messages


def overwrite(path: Path) -> None:
    """Damage a database as a bad disk does: its first page stays, the others are noise."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


@pytest.mark.slow
def test_a_damaged_database_of_mlflow_is_replaced_and_its_runs_restored(store: Store) -> None:
    path = store.home / "mlflow.db"
    # As where the database lies on another disk.
    (store.home / "disk").mkdir()
    path = path.rename(store.home / "disk" / "mlflow.db")
    (store.home / "mlflow.db").symlink_to(path)
    overwrite(path)
    with pytest.raises(PipelineError, match=r"is damaged: .* run `adc repair`"), prepared(path):
        pass
    # In a process of its own, since MLflow keeps databases open.
    command = [sys.executable, "-m", "adc_pipeline", "repair"]
    done = subprocess.run(command, env={**os.environ, "ADC_HOME": str(store.home)}, capture_output=True, text=True)
    messages = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "of MLflow is damaged" in messages[0]
    assert messages[1].startswith("Lost from MLflow")
    assert len(list(path.parent.glob("mlflow.db.damaged-*"))) == 1
    made = store.current("top_2")
    run = read_making(made)["run"]
    with closing(sqlite3.connect(path)) as connection:
        queries = (
            "SELECT status FROM runs WHERE run_uuid = ?",
            "SELECT value FROM tags WHERE run_uuid = ? AND key = 'adc.digest'",
            "SELECT value FROM metrics WHERE run_uuid = ? AND key = 'walks'",
            "SELECT value FROM params WHERE run_uuid = ? AND key = 'seed'",
            "SELECT name LIKE 'repair %' FROM runs WHERE run_uuid ="
            " (SELECT value FROM tags WHERE run_uuid = ? AND key = 'mlflow.parentRunId')",
        )
        found = [connection.execute(query, [run]).fetchone()[0] for query in queries]
    assert found == ["FINISHED", made.digest, 3, "1", True]


@pytest.mark.slow
def test_a_damaged_database_of_dagster_is_replaced(store: Store) -> None:
    with dagster_instance(store):
        pass
    runs = store.home / "dagster" / "history" / "runs.db"
    runs.write_bytes(b"no database" * 1000)
    messages = repaired(store)
    assert len(messages) == 2
    assert "of Dagster is damaged" in messages[0]
    assert messages[1] == "Lost from Dagster: the list of runs."
    with dagster_instance(store) as instance:
        assert instance.get_runs_count() == 0
    assert len(list(runs.parent.glob("runs.db.damaged-*"))) == 1


def test_tables_that_were_not_completed_count_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        assert fault(path, "Dagster") == "its tables have 0 revisions instead of one"
        connection.execute("INSERT INTO alembic_version VALUES ('a')")
        connection.commit()
        assert fault(path, "Dagster") == ""
        connection.execute("INSERT INTO alembic_version VALUES ('b')")
        connection.commit()
    assert fault(path, "Dagster") == "its tables have 2 revisions instead of one"


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ("DROP TABLE latest_metrics", "it lacks latest_metrics."),
        ("ALTER TABLE params DROP COLUMN value", "it lacks params.value"),
        ("CREATE TABLE of_another_program (name TEXT)", ""),
    ],
)
def test_tables_of_mlflow_that_are_gone_count_as_damage(tmp_path: Path, change: str, lacks: str) -> None:
    path = tmp_path / "mlflow.db"
    with prepared(path):
        assert fault(path, "MLflow", partial(lacking_in_mlflow, path)) == ""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
    found = fault(path, "MLflow", partial(lacking_in_mlflow, path))
    assert found.startswith(lacks)
    assert bool(found) == bool(lacks)


@pytest.mark.slow
def test_tables_of_dagster_that_are_gone_count_as_damage(store: Store) -> None:
    with dagster_instance(store):
        pass
    assert repaired(store) == [f"Nothing is damaged in ADC_HOME = {store.home}."]
    changes = {
        "history/runs.db": ("ALTER TABLE runs RENAME COLUMN status TO state", "runs.status"),
        "history/runs/index.db": ("DROP TABLE asset_keys", "asset_keys.asset_details, "),
        "schedules/schedules.db": ("ALTER TABLE jobs DROP COLUMN job_body", "jobs.job_body"),
    }
    for name, (change, _) in changes.items():
        with closing(sqlite3.connect(store.home / "dagster" / name)) as connection:
            connection.execute(change)
    messages = repaired(store)
    for name, (_, lacks) in changes.items():
        assert any(f"{name} of Dagster is damaged (it lacks {lacks}" in message for message in messages), messages
    assert repaired(store) == [f"Nothing is damaged in ADC_HOME = {store.home}."]


@pytest.mark.slow
def test_a_damaged_artefact_is_reported(store: Store) -> None:
    (store.current("top_2").path / "data.txt").write_text("other")
    assert repaired(store) == [
        "top_2 is damaged (data.txt is missing or altered): the next run rebuilds it.",
    ]


def test_nothing_is_restored_from_a_damaged_artefact(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.current("top_2").path / "data.txt").write_text("other")
    messages: list[str] = []
    monkeypatch.setattr(repairing, "restore", lambda store, tracking, made: [f"{made.name} is restored"])
    repairing.repair_mlflow(store, messages.append)
    assert messages == []


@pytest.mark.slow
def test_nothing_is_reported_where_nothing_is_damaged(store: Store) -> None:
    assert repaired(store) == [f"Nothing is damaged in ADC_HOME = {store.home}."]


@pytest.mark.slow
def test_nothing_is_moved_while_an_artefact_is_being_built(store: Store) -> None:
    with store.aside("top_2"), pytest.raises(PipelineError, match="top_2 is being built"):
        repair(store, print)
