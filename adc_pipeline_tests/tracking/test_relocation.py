"""A moved or copied ADC_HOME: MLflow's addresses are corrected in one step, or left as they were."""

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.links import locked
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking import relocation
from adc_pipeline.tracking.database import prepared
from adc_pipeline.tracking.intact import is_intact
from adc_pipeline.tracking.relocation import ADDRESSES, previous_home, relocate, replace_addresses
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline_tests.tracking.history import History, chain, history

__all__ = ["history"]


def moved(history: History, to: Path) -> Path:
    """Return the home after it was renamed."""
    chain(history)
    (history.store.home / "mlflow-artifacts").mkdir(exist_ok=True)
    shutil.move(history.store.home, to)
    return to


@pytest.mark.slow
def test_runs_are_refused_until_the_addresses_are_corrected(history: History, tmp_path: Path) -> None:
    home = moved(history, tmp_path / "moved")
    tracking = Tracking(f"sqlite:///{home / 'mlflow.db'}", (home / "mlflow-artifacts").as_uri(), variable="")
    with pytest.raises(PipelineError, match=r"was moved or copied.*`adc relocate`"):
        tracking.check()
    changed = relocate(home)
    assert {"experiments.artifact_location", "runs.artifact_uri", "datasets.dataset_source"} <= set(changed)
    tracking.check()
    client = tracking.client()
    for run in client.search_runs([tracking.experiment(client)]):
        assert run.info.artifact_uri.startswith(f"{home.as_uri()}/")
        assert run.inputs is not None
        assert all(str(history.store.home) not in each.dataset.source for each in run.inputs.dataset_inputs)
    assert relocate(home) == {}


@pytest.mark.slow
def test_the_old_home_stays_as_it_is_after_a_copy(history: History, tmp_path: Path) -> None:
    chain(history)
    (history.store.home / "mlflow-artifacts").mkdir(exist_ok=True)
    copy = shutil.copytree(history.store.home, tmp_path / "copy", symlinks=True)
    before = (history.store.home / "mlflow.db").read_bytes()
    relocate(copy)
    assert (history.store.home / "mlflow.db").read_bytes() == before


@pytest.mark.slow
def test_a_database_behind_a_link_is_locked_where_a_run_locks_it(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = moved(history, tmp_path / "moved")
    disk = tmp_path / "disk"
    disk.mkdir()
    (home / "mlflow.db").rename(disk / "mlflow.db")
    (home / "mlflow.db").symlink_to(disk / "mlflow.db")
    held = []

    def watched(database: Path) -> Path | None:
        with locked(disk) as free:
            held.append(not free)
        return previous_home(database)

    monkeypatch.setattr(relocation, "previous_home", watched)
    assert relocate(home)
    assert held == [True]
    assert (home / "mlflow.db").is_symlink()


@pytest.mark.slow
def test_a_database_without_its_artifacts_is_left_unchanged(history: History, tmp_path: Path) -> None:
    home = moved(history, tmp_path / "moved")
    shutil.rmtree(home / "mlflow-artifacts")
    before = (home / "mlflow.db").read_bytes()
    with pytest.raises(PipelineError, match=r"mlflow-artifacts does not exist.*copy mlflow-artifacts and store"):
        relocate(home)
    assert (home / "mlflow.db").read_bytes() == before
    assert not list(home.glob(".mlflow.db-*"))


def test_a_database_without_the_store_is_left_unchanged(history: History, tmp_path: Path) -> None:
    home = moved(history, tmp_path / "moved")
    shutil.rmtree(home / "store", ignore_errors=True)
    with pytest.raises(PipelineError, match=r"MLflow's datasets name: copy mlflow-artifacts and store together"):
        relocate(home)


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="There is no MLflow database"):
        relocate(tmp_path)


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_a_damaged_database_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(PipelineError, match=r"mlflow.db (is damaged|cannot be used).*`adc repair`"):
        relocate(tmp_path)


def test_a_database_that_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mlflow.db")
    with pytest.raises(PipelineError, match=r"The database .*/mlflow\.db is a FIFO and no regular file"):
        relocate(tmp_path)
    with pytest.raises(PipelineError, match="is a FIFO"), prepared(tmp_path / "mlflow.db"):
        pass
    # A run in which everything is up to date asks nothing else of it.
    with pytest.raises(PipelineError, match="is a FIFO"):
        is_intact(Tracking.from_environment(tmp_path), Artefact("top_2", tmp_path, "0" * 32), {"run": "a"})


def test_a_home_that_cannot_be_written_to_is_named_and_not_a_file_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _: bytes) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "mlflow.db").touch()
    # The superuser, who may run the tests, is refused nothing.
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(PipelineError, match=f"^ADC_HOME = {tmp_path} cannot be written to"):
        relocate(tmp_path)


@pytest.mark.parametrize(
    ("before", "home"), [("/store", "/mnt/new"), ("/models", "/srv/models"), ("/a b/é", "/a b/é/a b/é"), ("/x", "/xx")]
)
def test_the_name_of_a_home_may_occur_in_an_address_again(before: str, home: str, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"

    def addresses(place: Path) -> list[str]:
        uri = f"{place.as_uri()}/store/models/data/x/a%20b/store"
        return [uri, f"{place}/models/store", f'{{"uri": "{uri}"}}', "models:/m-1", f"{place}y/store"]

    with closing(sqlite3.connect(database)) as connection:
        for table in dict.fromkeys(table for table, _ in ADDRESSES):
            columns = [column for each, column in ADDRESSES if each == table]
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            rows = [[address] * len(columns) for address in addresses(Path(before))]
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608
        connection.commit()
    assert set(replace_addresses(database, Path(before), Path(home)).values()) == {3}
    with closing(sqlite3.connect(database)) as connection:
        for table, column in ADDRESSES:
            found = [row[0] for row in connection.execute(f"SELECT {column} FROM {table}")]  # noqa: S608
            assert found == [*addresses(Path(home))[:4], f"{before}y/store"]
