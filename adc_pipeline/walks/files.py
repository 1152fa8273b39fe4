"""The files of a dataset: their names, and how the rows of shards are joined to them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import link_or_copy, shard_sql
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation


# The published files: readable by every Parquet reader, and small.
PUBLISHED = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
# Those of a shard, which are joined to published ones at once.
JOINED = "FORMAT parquet, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1000"


def nullable(columns: Sequence[str], always: str) -> str:
    """Return a list of columns, each of which Parquet declares as nullable, although no value is null.

    DuckDB would otherwise declare a column as required only where its statistics show no null, and the same rows would
    give different bytes. `always` is a condition that holds for every row, which DuckDB does not know.
    """
    return ", ".join(f"if({always}, {name}, NULL) AS {name}" for name in columns)


# Bytes of text in a file of a dataset, which zstandard makes some 500 MB of. A split of more has several files.
TEXT_A_FILE = 1_200_000_000
# Shards of together fewer bytes are not measured: no text is packed to less than a twelfth.
LEAST_MEASURED = TEXT_A_FILE // 12
# Rows that are joined at a time: four of DuckDB's vectors.
BATCH = 4 * 2048


def split_file(split: Split, configuration: str = "data") -> str:
    """Return the path of a split of one file inside a dataset's folder; `numbered` returns those of several."""
    return f"{configuration}/{split}-00000-of-00001.parquet"


def split_files(dataset: Path, split: Split, configuration: str = "data") -> list[str]:
    """Return the files of a split of a dataset, in order."""
    return sorted(map(str, (dataset / configuration).glob(f"{split}-*-of-*.parquet")))


def join_shards(
    connection: "DuckDBPyConnection", engine: Engine, what: str, columns: str, shards: Sequence[Path], file: Path
) -> None:
    """Write the rows of all shards to `file`, in their order, which is that of the dataset.

    Where they hold more text than `TEXT_A_FILE`, they go to several files, SPLIT-00000-of-NNNNN.parquet, which are
    ranges of the hash of the conversation's id: the files depend on the rows alone.

    A row group is closed after the vector with its 122,880th row. Read from files, vectors end where the files do, and
    row groups would depend on the shards, so the rows go through Arrow in batches of whole vectors. A sort fills
    vectors too, and needs twice the memory: with 500 MB, 1 GB of pairs could not be joined.
    """
    files = file_count(connection.read_parquet([str(path) for path in shards], hive_partitioning=False), shards)
    if len(shards) == files == 1:
        link_or_copy(shards[0], file)
        return
    for number in range(files):
        # The shards, too, are ranges of this hash.
        within = shards[number * len(shards) // files : math.ceil((number + 1) * len(shards) / files)]
        chosen = f"WHERE {shard_sql('conversation_id', files)} = {number}" if files > 1 else ""
        rows = f"FROM read_parquet($files, hive_partitioning = false) {chosen}"
        found = connection.sql(rows, params={"files": [str(path) for path in within]}).to_arrow_reader(BATCH)
        with engine.connect(file.with_suffix(".spill")) as writing:
            writing.from_arrow(in_whole_vectors(found)).create_view("joined")
            joined, doing = numbered(file, number, files), f"joining the shards of {what}"
            engine.write(writing, doing, f"SELECT {columns} FROM joined", joined, {}, PUBLISHED)  # noqa: S608


def in_whole_vectors(rows: "pa.RecordBatchReader") -> "pa.RecordBatchReader":
    """Return the same rows in batches of `BATCH`, but for the last one."""
    import pyarrow as pa

    def batches() -> "Iterator[pa.RecordBatch]":
        waiting: list[pa.RecordBatch] = []
        for batch in rows:
            waiting.append(batch)
            while sum(each.num_rows for each in waiting) >= BATCH:
                table = pa.Table.from_batches(waiting)
                yield from table.slice(0, BATCH).combine_chunks().to_batches()
                waiting = table.slice(BATCH).to_batches()
        if waiting:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()

    return pa.RecordBatchReader.from_batches(rows.schema, batches())


def numbered(file: Path, number: int, of: int) -> Path:
    """Return the path of one of several files, given that of the only one."""
    return file.with_name(file.name.replace("-00000-of-00001", f"-{number:05}-of-{of:05}"))


def file_count(rows: "DuckDBPyRelation", files: Sequence[Path]) -> int:
    """Return how many files the rows ask for, which lie in `files`."""
    if sum(path.stat().st_size for path in files) < LEAST_MEASURED:
        return 1
    size = " + ".join(f'coalesce(strlen("{name}"::VARCHAR), 0)' for name in rows.columns)
    ((found,),) = rows.aggregate(f"sum({size})").fetchall()
    return max(1, math.ceil((found or 0) / TEXT_A_FILE))
