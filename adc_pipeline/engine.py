"""How DuckDB runs: threads and memory, the only two settings that never change a result.

A connection lives in memory and spills to a folder beside the output when `memory_limit` is reached, so
that a stage needs disk rather than luck. Opening one costs about 10 ms.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
    def connect(self, spill: Path) -> Iterator["DuckDBPyConnection"]:
        """A connection that spills to the folder `spill`, which is removed afterwards."""
        import shutil

        import duckdb

        with duckdb.connect() as connection:
            if self.threads:
                connection.execute("SET threads = $1", [self.threads])
            try:
                connection.execute("SET memory_limit = $1", [self.memory_limit])
            except duckdb.Error as error:
                raise PipelineError(
                    f"memory_limit is {self.memory_limit!r}, which DuckDB does not understand: write it like 4GB."
                ) from error
            connection.execute("SET temp_directory = $1", [str(spill)])
            try:
                yield connection
            finally:
                shutil.rmtree(spill, ignore_errors=True)
