"""The data stages run in a folder, and their tables read back."""

from pathlib import Path
from typing import Any

import duckdb

from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.tables import create_utterances


def read(folder: Path, pattern: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Rows of the files of this name in an artefact's folder, in their order."""
    return duckdb.read_parquet(parts(folder, pattern)).project(columns).fetchall()


def read_records(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The same as dictionaries."""
    return duckdb.read_parquet(parts(folder, pattern)).to_arrow_table().to_pylist()


def read_utterances(folder: Path, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    """Rows of the utterances that take part, in the order of the source."""
    with duckdb.connect() as connection:
        create_utterances(connection, folder)
        return connection.table("utterances").filter(where).order("position").project(columns).fetchall()


def utterance_records(folder: Path) -> list[dict[str, Any]]:
    """All of them as dictionaries."""
    with duckdb.connect() as connection:
        create_utterances(connection, folder)
        return connection.table("utterances").order("position").to_arrow_table().to_pylist()
