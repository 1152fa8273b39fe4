"""How DuckDB runs: threads and memory, the only two settings that never change a result.

A connection lives in memory and spills to a folder beside the output when `memory_limit` is reached, so
that a stage needs disk rather than luck.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Engine:
    """Settings of a DuckDB connection."""

    threads: int = field(default=0, metadata={"description": "Threads of DuckDB; 0 takes every core."})
    memory_limit: str = field(
        default="4GB", metadata={"description": "Memory DuckDB may take before it spills to disk."}
    )

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
            try:
                yield connection
            finally:
                shutil.rmtree(spill, ignore_errors=True)


def only_row(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> dict[str, Any]:
    """The one row of a query, by column name; the result is fetched to its end."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description]
    ((*values,),) = result.fetchall()
    return dict(zip(names, values, strict=True))
