"""The tables that the stage `utterances` writes, as DuckDB views over one shard or over all of them.

A shard's folder holds three files: `utterances-00000.parquet` (and on, one a part of the source), every
row read, in the order of the source; `tree.parquet`, where each row that takes part stands; and
`conversations.parquet`, one row a root. Text is written once, as it is read, and never moved again: the
place in the tree, a few bytes a row, lies beside it. What is in no tree is in `set_aside.parquet`.
"""

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.shards import parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

READ, TREE, CONVERSATIONS, SET_ASIDE = (
    "utterances-*.parquet",
    "tree.parquet",
    "conversations.parquet",
    "set_aside.parquet",
)

UTTERANCES = """
SELECT r.id, r.conversation_id, r.reply_to, r.speaker, r.text, r.timestamp, r.score, r.position, c.title,
    coalesce(c.source, r.source) AS source, r.stickied, r.score_hidden, r.distinguished,
    t.depth = 0 AS is_root, t.parent_position, t.depth
FROM read_rows AS r JOIN tree AS t USING (position) LEFT JOIN conversations AS c ON c.root_position = t.position
"""


def create_read_rows(connection: "DuckDBPyConnection", folder: Path) -> None:
    """The view `read_rows`: every row read, with its `position`, its place in the source.

    Where rows were not dealt out to several shards the position is not stored, since it is the row's number.
    """
    files = parts(folder, READ)
    rows = connection.read_parquet(files, file_row_number=True)
    if "position" in rows.columns:
        columns = "* EXCLUDE (file_row_number)"
    else:
        begin = f"{first_positions(files)}[file_index::BIGINT + 1] + " if len(files) > 1 else ""
        columns = f"{begin}file_row_number AS position, * EXCLUDE (file_row_number)"
    rows.project(columns).create_view("read_rows")


def first_positions(files: list[str]) -> list[int]:
    """The position of each file's first row."""
    import pyarrow.parquet as pq

    return [0, *accumulate(pq.read_metadata(file).num_rows for file in files[:-1])]


def create_tree(connection: "DuckDBPyConnection", folder: Path) -> None:
    """The views `tree` (position, parent_position, depth) and `conversations`."""
    connection.read_parquet(parts(folder, TREE)).create_view("tree")
    connection.read_parquet(parts(folder, CONVERSATIONS)).create_view("conversations")


def create_utterances(connection: "DuckDBPyConnection", folder: Path) -> None:
    """The view `utterances`: every utterance that takes part, with its place in its conversation.

    Columns: `id`, `conversation_id`, `reply_to`, `speaker`, `text`, `timestamp` (seconds), `score`,
    `position`, `title` (of a root), `source`, `stickied`, `score_hidden`, `distinguished`, `is_root`,
    `parent_position`, `depth` (0 for a root).
    """
    create_read_rows(connection, folder)
    create_tree(connection, folder)
    connection.sql(UTTERANCES).create_view("utterances")
