"""How DuckDB runs: threads and memory, the only two settings that never change a result, and who hears of it.

A connection lives in memory and spills to a folder beside the output when `memory_limit` is reached, so
that a stage needs disk rather than luck. What DuckDB takes beyond its limit (buffers of the JSON reader,
the Python process) is below 1 GB.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Report = Callable[[str], None]

MEMORY_LIMIT = "3GB"
SECONDS_BETWEEN_REPORTS = 5.0

# How the tables between the stages are written. Trying a dictionary for every column of distinct values, and
# a stronger compression, would together take as long as parsing the JSON lines does.
PARQUET = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION snappy, DICTIONARY_SIZE_LIMIT 1000"


def no_report(_: str) -> None:
    """Ignore progress reports; the default."""


@contextmanager
def reporting(progress: Callable[[], str], report: Report) -> Iterator[None]:
    """Tell `report` every five seconds, from a thread of its own, what `progress` says while the block runs."""
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


@dataclass(frozen=True)
class Engine:
    """Settings of a DuckDB connection; `report` is told, every five seconds, how far a statement is."""

    threads: int = setting(0, "Threads of DuckDB; 0 takes every core.")
    memory_limit: str = setting(MEMORY_LIMIT, "Memory DuckDB may take before it spills to disk.")
    report: Report = no_report

    @contextmanager
    def connect(self, spill: Path | None = None) -> Iterator["DuckDBPyConnection"]:
        """A connection of its own that spills to the folder `spill`, which is removed afterwards."""
        import shutil
        import tempfile

        import duckdb

        spill = spill or Path(tempfile.gettempdir()) / f"adc-spill-{os.getpid()}"

        with duckdb.connect() as connection:
            try:
                if self.threads:
                    connection.execute("SET threads = $1", [self.threads])
                connection.execute("SET memory_limit = $1", [self.memory_limit])
            except duckdb.Error as error:
                raise PipelineError(
                    f"DuckDB does not take threads = {self.threads} with memory_limit = {self.memory_limit!r}: give the"
                    " workspace a whole number of threads, 0 for every core, and a limit like 4GB."
                ) from error
            connection.execute("SET temp_directory = $1", [str(spill)])
            connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
            try:
                yield connection
            finally:
                shutil.rmtree(spill, ignore_errors=True)

    def run(self, connection: "DuckDBPyConnection", doing: str, statement: str, parameters: object = None) -> None:
        """Execute one statement; `doing` says what it does, for the report of a long one."""
        with self._reporting(doing, connection):
            connection.execute(statement, parameters)

    def write(
        self,
        connection: "DuckDBPyConnection",
        doing: str,
        query: str,
        path: Path,
        parameters: Mapping[str, object] | None = None,
        options: str = PARQUET,
    ) -> None:
        """Write the rows of a query to a Parquet file, in their order."""
        self.run(connection, doing, f"COPY ({query}) TO $path ({options})", {"path": str(path), **(parameters or {})})

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
    """The one row of a query, by column name; the result is fetched to its end."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description]
    ((*values,),) = result.fetchall()
    return dict(zip(names, values, strict=True))


def counts_by(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> dict[str, int]:
    """A query of names and numbers as a dictionary, in the order of the names."""
    return dict(sorted(connection.execute(query, parameters).fetchall()))
