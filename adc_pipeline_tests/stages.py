"""Read back the tables that the data stages write."""

from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from adc_pipeline.core.engine import database_of
from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.tables import create_utterances


def read(folder: Path, pattern: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return the rows of the files of this name in an artefact's folder, in order."""
    return duckdb.read_parquet(parts(folder, pattern)).project(columns).fetchall()


def read_records(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the rows of the files of this name in an artefact's folder as dictionaries."""
    return duckdb.read_parquet(parts(folder, pattern)).to_arrow_table().to_pylist()


@cache
def instance() -> duckdb.DuckDBPyConnection:
    """Return the instance of DuckDB in which tables are read: a new one takes 20 ms, a database in it 1 ms."""
    return duckdb.connect()


def read_utterances(folder: Path, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    """Return rows of the utterances that take part, in the order of the source."""
    with database_of(instance()) as connection:
        create_utterances(connection, folder)
        return connection.table("utterances").filter(where).order("position").project(columns).fetchall()


def utterance_records(folder: Path) -> list[dict[str, Any]]:
    """Return all utterances that take part as dictionaries, in the order of the source."""
    with database_of(instance()) as connection:
        create_utterances(connection, folder)
        return connection.table("utterances").order("position").to_arrow_table().to_pylist()
