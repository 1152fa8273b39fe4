"""Run DuckDB: connections with limits on threads and memory, and progress reports for long statements.

Threads and memory are the only two settings that never change a result. A connection's database is in memory; at
`memory_limit` it spills to a folder beside the output, so that a stage that needs more memory needs disk instead of
failing. Memory beyond the limit (buffers of the JSON reader, the Python process) is below 1 GB.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import is_utf8
from adc_pipeline.core.placement import Executor
from adc_pipeline.core.settings import setting

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

Report = Callable[[str], None]

MEMORY_LIMIT = "3GB"
SECONDS_BETWEEN_REPORTS = 5.0

# Options for the tables between stages. A dictionary for columns of distinct values, and a stronger compression, would
# together take as long as parsing the JSON lines.
PARQUET = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION snappy, DICTIONARY_SIZE_LIMIT 1000"


def no_report(_: str) -> None:
    """Discard a progress report."""


@contextmanager
def reporting(progress: Callable[[], str], report: Report) -> Iterator[None]:
    """Pass `progress()` to `report` every five seconds, from a thread of its own, while the block runs."""
    done = Event()

    def watch() -> None:
        while not done.wait(SECONDS_BETWEEN_REPORTS):
            report(progress())

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


# All that is needed is built in: no statement fetches or loads an extension.
NO_EXTENSIONS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# With this optimizer, DuckDB 2.0.1 may return another column of the same name from a join below
# `QUALIFY row_number() <= n`, so that `preferences` lost rows; a test of it has the case.
WITHOUT_WRONG_RESULTS = "SET disabled_optimizers = 'top_n_window_elimination'"
# No statement reaches the network or loads an extension from a file, and none can undo that. Files of the machine stay
# readable, since every connection reads some; which ones, the values that the statements are given say.
LOCAL_FILES_ONLY = "SET allowed_directories = ['/']; SET enable_external_access = false"


def connected(spill: Path | None = None) -> "DuckDBPyConnection":
    """Return a new connection to a database in memory that reads local files only; every connection is made here.

    It spills to the folder `spill`, which cannot be changed afterwards.
    """
    import duckdb

    connection = duckdb.connect(config=NO_EXTENSIONS)
    if spill:
        connection.execute("SET temp_directory = $1", [str(spill)])
    connection.execute(WITHOUT_WRONG_RESULTS)
    connection.execute(LOCAL_FILES_ONLY)
    return connection


PROGRESS = "SET enable_progress_bar = true; SET enable_progress_bar_print = false"
# Names of databases, never used twice.
NUMBERS = count()


@contextmanager
def database_of(instance: "DuckDBPyConnection") -> "Iterator[DuckDBPyConnection]":
    """Yield a connection to a new database in memory of an instance, which is removed afterwards."""
    import duckdb

    name = f"database_{next(NUMBERS)}"
    with instance.cursor() as connection:
        connection.execute(f"{PROGRESS}; ATTACH ':memory:' AS {name}; USE {name}")
        try:
            yield connection
        except BaseException:
            # A result that is still open would refuse the statement, and hide why.
            with suppress(duckdb.Error):
                connection.execute(f"USE memory; DETACH {name}")
            raise
        connection.execute(f"USE memory; DETACH {name}")


@dataclass(frozen=True)
class Engine:
    """How a stage computes: settings of DuckDB's connections, and where shards are processed.

    `report` receives the progress of a statement every five seconds. Connections spill to `scratch`, if it is set,
    instead of the folder beside their output, which may lie on shared storage.
    """

    threads: int = setting(0, "Number of DuckDB threads; 0 uses every core.")
    memory_limit: str = setting(MEMORY_LIMIT, "Memory that DuckDB may use before it spills to disk, such as 4GB.")
    report: Report = no_report
    executor: Executor = "local"
    scratch: Path | None = None
    # An instance of DuckDB in which connections are made; see `shared`.
    instance: "DuckDBPyConnection | None" = None
    # The open connections, where another thread may have to interrupt their statements.
    in_use: "list[DuckDBPyConnection] | None" = None

    @contextmanager
    def shared(self, spill: Path) -> "Iterator[Engine]":
        """Yield an engine whose connections share one instance of DuckDB, each with a database of its own.

        A new instance registers all functions, which takes 20 ms; a database in it takes 1 ms. The instance spills to
        the folder `spill`. On a cluster every task has an instance of its own.
        """
        if self.instance or self.executor == "ray":
            yield self
            return
        with self.connect(spill) as instance:
            yield replace(self, instance=instance)

    @contextmanager
    def connect(self, spill: Path | None = None) -> Iterator["DuckDBPyConnection"]:
        """Yield a new connection that spills to the folder `spill`, which is removed afterwards.

        Raise PipelineError if DuckDB rejects the limits.
        """
        with self._new_connection(spill) as connection:
            if self.in_use is None:
                yield connection
                return
            self.in_use.append(connection)
            try:
                yield connection
            finally:
                self.in_use.remove(connection)

    @contextmanager
    def _new_connection(self, spill: Path | None) -> Iterator["DuckDBPyConnection"]:
        import duckdb

        if self.instance:
            with database_of(self.instance) as connection:
                yield connection
            return
        if self.scratch or not spill:
            spill = (self.scratch or Path(tempfile.gettempdir())) / f"adc-spill-{os.getpid()}"
        if not is_utf8(str(spill)):
            raise PipelineError(
                f"The folder for temporary files, {spill.parent}, has a path that is not UTF-8: set TMPDIR."
            )

        with connected(spill) as connection:
            try:
                if self.threads:
                    connection.execute("SET threads = $1", [self.threads])
                connection.execute("SET memory_limit = $1", [self.memory_limit])
            except duckdb.Error as error:
                raise PipelineError(
                    f"DuckDB rejects threads = {self.threads} with memory_limit = {self.memory_limit!r}: set the"
                    " workspace's `threads` to a whole number, 0 for every core, and its `memory_limit` to a size such"
                    " as 4GB."
                ) from error
            connection.execute(PROGRESS)
            try:
                yield connection
            finally:
                shutil.rmtree(spill, ignore_errors=True)

    def run(self, connection: "DuckDBPyConnection", doing: str, statement: str, parameters: object = None) -> None:
        """Execute one statement; `doing` names it in progress reports, such as "ranking replies"."""
        import duckdb

        try:
            with self._reporting(doing, connection):
                connection.execute(statement, parameters)
        except UnicodeDecodeError as error:
            # The message of an error of DuckDB's, which repeats a value and may end in the middle of a character.
            raise duckdb.InvalidInputException(error.object.decode(errors="replace")) from error

    def write(
        self,
        connection: "DuckDBPyConnection",
        doing: str,
        query: str,
        path: Path,
        parameters: Mapping[str, object] | None = None,
        options: str = PARQUET,
    ) -> None:
        """Write the rows of a query to a Parquet file, in the query's order."""
        self.run(connection, doing, f"COPY ({query}) TO $path ({options})", {"path": str(path), **(parameters or {})})

    @contextmanager
    def batches(
        self,
        connection: "DuckDBPyConnection",
        doing: str,
        query: str,
        rows: int,
        parameters: Mapping[str, object] | None = None,
    ) -> Iterator["pa.RecordBatchReader"]:
        """Yield the rows of a query as Arrow batches of at most `rows`, in the query's order."""
        import duckdb
        import pyarrow as pa

        try:
            with self._reporting(doing, connection):
                yield connection.sql(query, params=dict(parameters or {})).to_arrow_reader(rows)
        except (pa.ArrowException, OSError) as error:
            # Arrow passes on the message of DuckDB's errors, and not their type.
            if "Out of Memory" in str(error):
                raise duckdb.OutOfMemoryException(str(error)) from error
            raise

    @contextmanager
    def _reporting(self, doing: str, connection: "DuckDBPyConnection") -> Iterator[None]:
        began = monotonic()

        def progress() -> str:
            share = connection.query_progress()
            return f"{doing}: {share:.0f} %" if share >= 0 else f"{doing}: {monotonic() - began:.0f} s"

        with reporting(progress, self.report):
            yield
        if monotonic() - began > SECONDS_BETWEEN_REPORTS:
            self.report(f"{doing}: done in {monotonic() - began:.0f} s")


def only_row(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> dict[str, Any]:
    """Return the only row of a query as a dictionary by column name."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description]
    ((*values,),) = result.fetchall()
    return dict(zip(names, values, strict=True))


def counts_by(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> dict[str, int]:
    """Return a query of names and numbers as a dictionary, sorted by name."""
    return dict(sorted(connection.execute(query, parameters).fetchall()))
