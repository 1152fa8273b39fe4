"""Dagster's own databases are in place whole or not at all, however many processes start at once."""

import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from queue import Queue
from typing import Any

import dagster as dg
import pytest
import yaml
from click import ClickException
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.defs import compact_storage, history
from adc_pipeline.defs.compact_storage import without_repetitions
from adc_pipeline.defs.history import AtomicSqliteStorage, HistoryError

ROOT = Path(__file__).parents[2]


def open_at(folder: Path, barrier: Any) -> None:
    barrier.wait()
    AtomicSqliteStorage.from_local(str(folder)).dispose()


def create_killed(folder: Path, names: list[str]) -> None:
    """Create the databases, and be killed with half of them done."""
    DagsterSqliteStorage.from_local(str(folder / ".new-killed"))
    (folder / ".new-killed" / names[0]).rename(folder / names[0])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_several_first_starts_at_once(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(4)
    processes = [fork.Process(target=open_at, args=(tmp_path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert opens(tmp_path)


@pytest.mark.parametrize(
    "address", ["https://ann:quince41secret@host/RC.zst", "s3://bucket/RC.zst?token=quince41secret", "sample"]
)
def test_a_run_that_is_refused_leaves_no_password_in_the_history(tmp_path: Path, address: str) -> None:
    config = {"ops": {"raw_corpus": {"config": {"corpus": address, "columns": {"text": "body"}}}}}
    storage = AtomicSqliteStorage.from_local(str(tmp_path)).run_storage
    run = storage.add_run(dg.DagsterRun("datasets", run_config=config))
    assert run.run_config == config
    stored: Any = storage.get_runs()[0].run_config
    assert "quince41secret" not in str(stored)
    if address == "sample":
        assert stored == config
    else:
        with pytest.raises(PipelineError, match="use an address without user, password and query"):
            read_settings(CorpusSettings, stored["ops"]["raw_corpus"]["config"], "raw_corpus")


def test_new_databases_of_events_have_small_pages(tmp_path: Path) -> None:
    storage = AtomicSqliteStorage.from_local(str(tmp_path)).event_log_storage
    # A run that was killed while its database was created.
    (tmp_path / "history" / "runs" / "killed.db").touch()
    sizes = {}
    for run in ("first", "killed"):
        assert storage.get_logs_for_run(run) == []
    for name in ("first", "killed", "index"):
        with closing(sqlite3.connect(tmp_path / "history" / "runs" / f"{name}.db")) as connection:
            sizes[name] = connection.execute("PRAGMA page_size").fetchone()[0]
    assert sizes == {"first": compact_storage.PAGE, "killed": 4096, "index": compact_storage.INDEX_PAGE}


def test_databases_stay_open_between_events_and_leave_no_logs(tmp_path: Path) -> None:
    storage = AtomicSqliteStorage.from_local(str(tmp_path))
    assert (storage.event_log_storage.get_logs_for_run("first"), storage.run_storage.get_runs()) == ([], [])
    logs = {path.name for path in tmp_path.rglob("*.db-wal")}
    assert logs == {"first.db-wal", "runs.db-wal", "index.db-wal"}
    with compact_storage.engine_of(f"sqlite:///{tmp_path}/history/runs.db").connect() as connection:
        # 1 is NORMAL.
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    storage.event_log_storage.dispose()
    assert not list(tmp_path.rglob("*.db-wal"))
    assert opens(tmp_path)


def test_a_page_that_watches_a_run_is_given_each_event(tmp_path: Path) -> None:
    """Of another process, whose database stays open: its write-ahead log grows, and not the file that is watched."""
    page, run = (AtomicSqliteStorage.from_local(str(tmp_path)).event_log_storage for _ in range(2))
    seen, event = Queue[str](), EventLogEntry(None, logging.INFO, "", "run", time.time(), None, None, None)
    run.store_event(event._replace(user_message="first"))
    page.watch("run", None, lambda found, _: seen.put(found.user_message))
    for message in ("second", "third"):
        run.store_event(event._replace(user_message=message))
        while seen.get(timeout=20) != message:
            pass
    page.dispose()


def test_what_an_event_repeats_is_not_stored_and_is_there_again_when_it_is_read(tmp_path: Path) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("checked", asset="made")])
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        context.log.info("said")
        return dg.MaterializeResult(metadata={"rows": 1}, check_results=[dg.AssetCheckResult(passed=True)])

    @dg.asset(deps=[made])
    def failed() -> None:
        raise ValueError("no")

    given: list[EventLogEntry] = []
    storage = {"module": "adc_pipeline.defs.history", "class": "AtomicSqliteStorage"}
    settings = {"storage": {"custom": storage | {"config": {"base_dir": str(tmp_path / "dagster")}}}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance, pytest.MonkeyPatch.context() as patch:

        def noted(event: EventLogEntry) -> EventLogEntry:
            given.append(event)
            return without_repetitions(event)

        patch.setattr(compact_storage, "without_repetitions", noted)
        run = dg.materialize([made, failed], instance=instance, raise_on_error=False).run_id
        read = instance.all_logs(run)
    assert [event.dagster_event_type for event in given] == [event.dagster_event_type for event in read]
    kinds = {event.dagster_event_type for event in read}
    assert {None, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION} <= kinds
    for before, after in zip(given, read, strict=True):
        assert after.message == before.message
        assert len(after.to_json()) <= len(before.to_json())
        if before.dagster_event and after.dagster_event:
            plain = before.dagster_event._replace(logging_tags={})
            assert after == before._replace(dagster_event=plain, user_message=after.user_message)
        else:
            assert after == before


@pytest.mark.slow
def test_a_killed_first_start_leaves_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")
    with monkeypatch.context() as patch:
        patch.setattr(history, "create", create_killed)
        process = fork.Process(target=open_at, args=(tmp_path, fork.Barrier(1)))
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert opens(tmp_path)
    assert not list(tmp_path.glob(".new-*"))


def opens(folder: Path) -> bool:
    """Return whether the storage works, by Dagster's own class as well."""
    for kind in (AtomicSqliteStorage, DagsterSqliteStorage):
        storage = kind.from_local(str(folder))
        assert storage.run_storage.get_runs() == []
        assert list(storage.event_log_storage.all_asset_keys()) == []
        assert list(storage.schedule_storage.all_instigator_state()) == []
        storage.dispose()
    return True


@pytest.mark.slow
def test_dagster_yaml_names_this_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    settings["storage"]["custom"]["config"]["base_dir"] = str(tmp_path / "dagster")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"storage": settings["storage"]}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs() == []
    found = sorted(path.name for path in (tmp_path / "dagster").iterdir())
    assert found == [".opening", ".version", "history", "schedules"]


@pytest.mark.slow
def test_databases_of_an_older_dagster_are_copied_and_upgraded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "dagster"
    AtomicSqliteStorage.from_local(str(folder)).dispose()
    assert not caplog.records
    runs = folder / "history" / "runs.db"
    with closing(sqlite3.connect(runs)) as connection:
        (newest,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        # The last change of the tables adds an index.
        connection.execute("UPDATE alembic_version SET version_num = '16e3655b4d9b'")
        connection.execute("DROP INDEX IF EXISTS idx_run_tags_run_id")
        connection.commit()
    (folder / ".version").write_text("1.12.0")
    AtomicSqliteStorage.from_local(str(folder)).dispose()
    (line,) = [record.getMessage() for record in caplog.records if record.name == history.__name__]
    kept = tmp_path / f"dagster-before-{dg.__version__}"
    assert str(kept) in line
    assert "To go back" in line
    assert revision(runs) == newest
    assert revision(kept / "history" / "runs.db") == "16e3655b4d9b"
    assert (kept / "schedules" / "schedules.db").exists()
    assert opens(folder)

    with closing(sqlite3.connect(runs)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()
    (folder / ".version").write_text("99.0.0")
    caplog.clear()
    with pytest.raises(HistoryError, match="ffffffffffff, and are as they were: install the version of Dagster that"):
        AtomicSqliteStorage.from_local(str(folder))
    assert not caplog.records
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("dagster-before")] == [kept.name]


def test_the_copy_of_an_earlier_upgrade_stays(tmp_path: Path) -> None:
    for name in ("copy", "copy-2", "copy-3"):
        assert history.unused(tmp_path / "copy") == tmp_path / name
        (tmp_path / name).mkdir()


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.mark.parametrize("name", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"])
@pytest.mark.parametrize("damage", ["other file", "cut off", "tables", "folder", "dangling link"])
def test_a_damaged_database_ends_in_a_sentence_that_dagsters_commands_print_alone(
    first: Path, tmp_path: Path, name: str, damage: str
) -> None:
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "dangling link":
        path.symlink_to(tmp_path / "nowhere" / "runs.db")
    else:
        pieces = {"other file": b"a picture", "cut off": content[: len(content) // 2]}
        path.write_bytes(pieces.get(damage, content[:4096] + bytes(len(content) - 4096)))
    with pytest.raises(
        ClickException, match=r"Dagster database .* (is damaged|cannot be (opened|used)).*: .*\.$"
    ) as found:
        AtomicSqliteStorage.from_local(str(tmp_path))
    assert isinstance(found.value, PipelineError)
    assert "\n" not in found.value.format_message()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with Dagster's new databases."""
    folder = tmp_path_factory.mktemp("first")
    AtomicSqliteStorage.from_local(str(folder)).dispose()
    return folder


def test_a_fifo_in_place_of_the_database_of_a_run_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.db")
    with pytest.raises(PipelineError, match=r"run\.db is a FIFO and no regular file"):
        compact_storage.OpenDatabases().keep(tmp_path / "run.db")
