"""Dagster's SQLite storages of runs and events, made smaller and faster, and without secrets.

Dagster makes an engine for every statement and waits for the disk after every event, which was half of the time of a
short run on a busy disk. It stores an event with repetitions, in tables whose pages are mostly empty. What is stored
here reads as Dagster's own; only its form differs, and secrets of a run's configuration are left out.
"""

import atexit
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.handle import StepHandle
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import serialize_value
from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from adc_pipeline.core.atomic import give_usual_mode
from adc_pipeline.core.secrets import HIDDEN, has_credentials, masked
from adc_pipeline.defs.unstarted import show_as_before
from adc_pipeline.tracking.database import refuse_special_file

# Bytes of a page in the database of a run, and in that of the events of all runs that concern assets.
PAGE, INDEX_PAGE = 512, 1024
# Databases whose engines a process keeps: that of all runs, the index, and those of some runs.
ENGINES = 8
# What takes the place of a secret in a run's configuration.
REMOVED = "removed"
# Ends of a run that may leave what it has planned.
TOO_EARLY = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)


@lru_cache(maxsize=ENGINES)
def engine_of(address: str) -> Engine:
    """Return the engine of a database, which connects anew each time.

    Dagster makes an engine for every statement, and a new engine compiles each statement again. A commit does not wait
    for the disk: with SQLite's write-ahead log, which Dagster uses, a power cut can lose the last events, and damages
    nothing.
    """
    engine = create_engine(address, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = NORMAL"))
    return engine


class OpenDatabases:
    """Idle connections to the databases that the process used last.

    SQLite writes the log into the database, and waits for the disk, whenever the last connection closes, which would be
    after each event.
    """

    def __init__(self) -> None:
        self.connections: dict[Path, sqlite3.Connection] = {}
        self.lock = Lock()

    def keep(self, file: Path) -> None:
        """Open a database, which has to exist; close the one that was opened first if they are too many."""
        with self.lock:
            if file in self.connections:
                return
            refuse_special_file(file)
            connection = sqlite3.connect(file, check_same_thread=False)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self.connections[file] = connection
            if len(self.connections) > ENGINES:
                self.connections.pop(next(iter(self.connections))).close()

    def close(self) -> None:
        with self.lock:
            while self.connections:
                self.connections.popitem()[1].close()


OPEN = OpenDatabases()
atexit.register(OPEN.close)


class Events(SqliteEventLogStorage):
    """`SqliteEventLogStorage` with one engine a database, which takes less room.

    Each of the 34 tables and indexes of a run's database takes a page at least, and most are empty, so that pages are
    small; nothing needs an index over the events of one run, which are read in their order. An event of a step names
    its step and its run up to six times (`without_repetitions`), its JSON has spaces, and events of assets and checks
    are stored in both databases.
    """

    def __init__(self, base_dir: str) -> None:
        self.found_tables: set[str] = set()
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = engine_of(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            OPEN.keep(database_of(engine))
            with engine.begin() as connection:
                yield connection

    def has_table(self, table_name: str) -> bool:
        """Return whether the index has a table; Dagster asks for each event, and none is ever removed."""
        if table_name not in self.found_tables and super().has_table(table_name):
            self.found_tables.add(table_name)
        return table_name in self.found_tables

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        file = database_of(engine)
        if new := not file.exists():
            # Writes the size into the file, where it cannot be changed later. If another process creates the file at
            # the same time, either size is right.
            with (
                suppress(sqlite3.OperationalError),
                closing(sqlite3.connect(file, isolation_level=None)) as connection,
            ):
                connection.execute(f"PRAGMA page_size = {INDEX_PAGE if for_index_shard else PAGE}")
                connection.execute("VACUUM")
                connection.execute("PRAGMA journal_mode = WAL")
            give_usual_mode(file)
        OPEN.keep(file)
        super()._initdb(engine, for_index_shard)
        if new and not for_index_shard:
            for index in SqlEventLogStorageTable.indexes:
                index.drop(engine, checkfirst=True)

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event; before the end of a run that ends too early, what it has not made is shown as before.

        Here, since Dagster's code server reports the failure of a run whose process was killed, and Dagster's page that
        of one which was cancelled in the queue or before its first step, and nothing asks us.
        """
        inner = event.dagster_event
        if inner is not None and inner.event_type in TOO_EARLY and self.has_instance:
            # The end itself matters more.
            with suppress(Exception):
                if run := self._instance.get_run_by_id(event.run_id):
                    cancelled = inner.event_type is dg.DagsterEventType.RUN_CANCELED
                    show_as_before(self._instance, run, cancelled)
        super().store_event(without_repetitions(event))
        # Dagster's page waits for changes of the database's own file, which an open database does not get: its
        # write-ahead log grows instead.
        with suppress(OSError):
            os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        # An instance disposes of its runs first.
        super().dispose()
        OPEN.close()

    def _event_to_row(self, event: EventLogEntry) -> dict[str, Any]:
        return {**super()._event_to_row(event), "event": serialize_value(event, separators=(",", ":"))}


def database_of(engine: Engine) -> Path:
    """Return the file of an engine's database."""
    return Path(engine.url.database or "")


def without_repetitions(event: EventLogEntry) -> EventLogEntry:
    """Return an event without what Dagster restores when it reads it, and without tags for Python's loggers.

    The message of the entry is read only where its event has none, and the handle of a step from that of its op.
    """
    inner = event.dagster_event
    if inner is None:
        return event
    if inner.node_handle is not None and inner.step_handle == StepHandle(inner.node_handle):
        inner = inner._replace(step_handle=None)
    return event._replace(
        user_message="" if inner.message is not None else event.user_message,
        dagster_event=inner._replace(logging_tags={}),
    )


class Runs(SqliteRunStorage):
    """`SqliteRunStorage` with one engine, and without the secrets in a run's configuration."""

    def add_run(self, dagster_run: dg.DagsterRun) -> dg.DagsterRun:
        # Dagster records a run before it begins, which then refuses such a configuration.
        super().add_run(dagster_run._replace(run_config=without_secrets(dagster_run.run_config)))
        return dagster_run

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        engine = engine_of(self._conn_string)
        OPEN.keep(database_of(engine))
        with engine.begin() as connection:
            yield connection


def without_secrets(config: Any) -> Any:
    """Return a run configuration with `REMOVED` in place of users, passwords and queries of addresses.

    No setting accepts these, nor what takes their place, so that a run that is launched from the database is refused.
    """
    if isinstance(config, Mapping):
        return {name: without_secrets(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [without_secrets(value) for value in config]
    if isinstance(config, str) and has_credentials(config):
        return masked(config).replace(HIDDEN, REMOVED)
    return config
