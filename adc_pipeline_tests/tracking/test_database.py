"""MLflow's SQLite database is created atomically, and one that cannot be opened gives one sentence."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.tracking import database
from adc_pipeline.tracking.runs import Tracking

# Opens the pipeline's database, or creates it, in a process of its own.
OPEN = """
import sys
from pathlib import Path
from adc_pipeline.tracking.runs import Tracking
Tracking.from_environment(Path(sys.argv[1])).check()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(database, "SECONDS_TO_SETTLE", 0)
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def path(home: Path) -> Path:
    return home / "mlflow.db"


def used(path: Path) -> Path:
    """Return the database with one run in it."""
    client = Tracking(f"sqlite:///{path}", path.parent.as_uri()).client()
    client.create_run("0", run_name="kept")
    return path


def runs(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM runs")]


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        connection.commit()


@pytest.mark.slow
def test_a_new_database_is_complete_and_the_next_one_comes_from_the_cache(
    home: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Tracking.from_environment(home).check()
    assert database.is_ready(path)
    monkeypatch.setattr(database, "upgrade", None)
    Tracking.from_environment(tmp_path / "another").check()
    assert database.is_ready(tmp_path / "another" / "mlflow.db")
    # A damaged copy in the cache is not used.
    (cached,) = (tmp_path / "cache" / "adc-pipeline").iterdir()
    content = cached.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:5000], content[:middle] + bytes(40_000) + content[middle + 40_000 :]):
        cached.write_bytes(damaged)
        with pytest.raises(TypeError, match="not callable"):
            Tracking.from_environment(tmp_path / "third").check()
    assert not (tmp_path / "third" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_database_whose_creation_was_killed_is_replaced(
    home: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(home)])
    while process.poll() is None and not any(file.stat().st_size for file in home.glob(".mlflow.db-new-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not path.exists()
    Tracking.from_environment(home).check()
    assert [file.name for file in home.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_several_first_starts_at_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, str(home)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    names = [found.name for found in Tracking.from_environment(home).client().search_experiments()]
    assert sorted(names) == ["Default", "adc"]


@pytest.mark.parametrize("tables", ["", "CREATE TABLE runs (name)", "CREATE TABLE alembic_version (version_num)"])
def test_an_unfinished_database_of_an_earlier_version_is_replaced(home: Path, path: Path, tables: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(tables)
    # A journal would be played back into the new database.
    path.with_name("mlflow.db-journal").touch()
    Tracking.from_environment(home).check()
    assert database.is_ready(path)
    assert not path.with_name("mlflow.db-journal").exists()


def test_an_experiment_of_somebodys_own_is_content(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INT, name TEXT)")
        connection.execute("INSERT INTO experiments VALUES (0, 'Default')")
    assert not database.has_content(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE experiments SET name = 'mine'")
    assert database.has_content(path)


def test_the_tables_of_another_program_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript('CREATE TABLE "a ""b" (word); INSERT INTO "a ""b" VALUES (1)')
    newest = database.newest_revision()

    def upgrade(copy: Path) -> None:
        with closing(sqlite3.connect(copy)) as connection:
            connection.executescript(f"CREATE TABLE alembic_version AS SELECT '{newest}' AS version_num")

    monkeypatch.setattr(database, "upgrade", upgrade)
    with database.prepared(path), closing(sqlite3.connect(path)) as connection:
        assert connection.execute('SELECT * FROM "a ""b"').fetchall() == [(1,)]


def test_an_older_database_is_upgraded_in_a_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    used(path)
    newest = database.newest_revision()
    set_revision(path, "older")
    before = path.read_bytes()

    def fail(_: Path) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(database, "upgrade", fail)
    with pytest.raises(PipelineError, match=r"cannot be upgraded to MLflow .* \(no room\), and is as it was"):
        Tracking(f"sqlite:///{path}").client()
    assert path.read_bytes() == before
    monkeypatch.setattr(database, "upgrade", lambda copy: set_revision(copy, newest))
    Tracking(f"sqlite:///{path}").client()
    assert runs(path) == ["kept"]
    kept = path.with_name(f"mlflow.db.before-{newest}")
    assert kept.read_bytes() == before
    (line,) = [record.getMessage() for record in caplog.records if record.name == database.__name__]
    assert f"a copy from before is {kept}. To go back" in line


def test_a_database_of_a_newer_version_is_not_changed(path: Path) -> None:
    used(path)
    set_revision(path, "fffffffffff1")
    before = path.read_bytes()
    with pytest.raises(PipelineError, match="install the version of MLflow that wrote it"):
        Tracking(f"sqlite:///{path}").client()
    assert path.read_bytes() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:60_000] = bytes(59_900)
    path.write_bytes(content)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "is damaged: restore it from a backup"),
        (overwrite, "is damaged: restore it from a backup"),
        (lambda path: path.write_text("no database " * 1000), "is damaged, it is no SQLite file"),
        (make_folder, "cannot be opened: check that it is a file"),
    ],
)
def test_a_damaged_database_is_named(
    home: Path, path: Path, empty_database: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    shutil.copy(empty_database, path)
    damage(path)
    with pytest.raises(PipelineError) as refused:
        Tracking.from_environment(home).check()
    assert f"The MLflow database {path} " in str(refused.value)
    assert sentence in str(refused.value)


def test_tables_of_another_version_at_an_address_are_refused(path: Path) -> None:
    """Those of PostgreSQL or MySQL, of which no copy can be made; SQLite answers for them here."""
    uri, shown = f"sqlite:///{path}", "postgresql://host"
    database.refuse_other_tables(f"sqlite:///{path.with_name('empty.db')}", shown)
    used(path)
    for revision, says in (
        ("75868b020152", r"older than .*: make a backup .*`mlflow db upgrade ADDRESS`; to go back, restore the backup"),
        ("feedfacecafe", "newer than .*: install the version that wrote it"),
    ):
        set_revision(path, revision)
        with pytest.raises(PipelineError, match=rf"{shown} has the tables .*{revision}.*{says}"):
            database.refuse_other_tables(uri, shown)
    set_revision(path, database.newest_revision())
    database.refuse_other_tables(uri, shown)


def test_a_link_to_a_database_stays_and_one_that_leads_nowhere_is_refused(home: Path, path: Path) -> None:
    real = home.parent / "disk" / "mlflow.db"
    path.symlink_to(real)
    # The disk is not mounted: a new database would begin a history without the old one.
    with pytest.raises(PipelineError, match=r"mlflow.db is a link to .*, which does not exist: mount what it leads to"):
        Tracking.from_environment(home).check()
    assert path.is_symlink()
    real.parent.mkdir()
    real.touch()
    Tracking.from_environment(home).check()
    assert path.is_symlink()
    assert database.is_ready(real)
