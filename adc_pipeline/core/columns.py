"""Columns and numbers of rows of Parquet files, from their footers, and their first rows."""

from collections.abc import Sequence
from typing import Any


def column_types(files: Sequence[str]) -> dict[str, str]:
    """Return the type of each column of a table in several files, as Arrow names it; empty without a file."""
    import pyarrow.parquet as pq

    return {field.name: str(field.type) for field in pq.read_schema(files[0])} if files else {}


def row_count(files: Sequence[str]) -> int:
    """Return the rows of a table in several files."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in files)


def first_rows(file: str, count: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the first rows of a table, all columns unless some are named."""
    import pyarrow.parquet as pq

    # With a buffer, a whole row group would be read and unpacked.
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        batch = next(parquet.iter_batches(count, columns=columns and list(columns)), None)
        return batch.to_pylist() if batch is not None else []
