"""Write the titles and sources that ConvoKit's `conversations.json` gives, one row a conversation.

The rows are sorted by shard, so that a shard reads its own: Parquet's statistics tell where they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import shard_sql
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.readers import convokit

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

TITLES = "titles.parquet"

# The entries of all `conversations.json`, in order.
ENTRY_COLUMNS = ("namespace", "conversation_id", "title", "source")
# Several corpora of one namespace may name a conversation, or one corpus may name it twice: the last entry wins.
TITLE_ROWS = """
SELECT *, {shard} AS shard FROM (
    SELECT namespace, text_id(conversation_id) AS conversation_id,
        decode_entities(arg_max(title, file_row_number)) AS title, arg_max(source, file_row_number) AS source
    FROM read_parquet($entries, file_row_number = true, hive_partitioning = false) GROUP BY ALL
) ORDER BY shard, namespace, conversation_id
"""
BATCH = 100_000


def write_entries(parts: list[Part], namespaces: list[str], path: Path) -> int:
    """Write the entries of all `conversations.json` to a Parquet file; return how many could not be read.

    Python parses them on one core, so that DuckDB may read the utterances meanwhile.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, unreadable = pa.schema([(name, pa.string()) for name in ENTRY_COLUMNS]), 0
    with pq.ParquetWriter(path, schema) as writer:
        for part, namespace in zip(parts, namespaces, strict=True):
            for titles in batched(convokit.titles(part.path) if part.what.kind == "convokit" else (), BATCH):
                rows = [(namespace, *title) for title in titles if title is not None]
                unreadable += len(titles) - len(rows)
                if rows:
                    writer.write_batch(
                        pa.record_batch([string_array(column) for column in zip(*rows, strict=True)], schema)
                    )
    return unreadable


def write_titles(entries: Path, path: Path, shards: int, connection: "DuckDBPyConnection", engine: Engine) -> None:
    """Write the titles and sources of conversations, one row a conversation, and remove the file of their entries."""
    query = TITLE_ROWS.format(shard=shard_sql("conversation_id", shards) if shards > 1 else "0")
    engine.write(connection, "writing the titles", query, path, {"entries": str(entries)})
    entries.unlink()


def create_titles(connection: "DuckDBPyConnection", path: Path, name: str, view: str = "titles") -> None:
    """Create a view of the titles of the conversations in the shard `name`, of a file by `write_titles`."""
    from duckdb import ColumnExpression, ConstantExpression

    number = ConstantExpression(int(name.partition("-")[0]))
    titles = connection.read_parquet(str(path), hive_partitioning=False).filter(ColumnExpression("shard") == number)
    titles.project("* EXCLUDE (shard)").create_view(view)


def string_array(values: Sequence[str | None]) -> "pa.StringArray":
    """Return texts as an array of Arrow; `pa.array` would import pandas, which takes as long as 100,000 utterances."""
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def batched(titles: Iterable[convokit.Title | None], size: int) -> Iterator[list[convokit.Title | None]]:
    """Yield lists of at most `size` titles."""
    left = iter(titles)
    while batch := list(islice(left, size)):
        yield batch
