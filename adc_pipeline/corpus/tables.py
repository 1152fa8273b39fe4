"""DuckDB views over the tables of the stage `utterances`, of one shard or of all shards.

A shard's folder holds `utterances-00000.parquet` and on, one file a part of the source, with every row read, in the
order of the source; `tree.parquet`, one row an utterance that takes part; `conversations.parquet`, one row a root; and
`set_aside.parquet` for the rest. Text is written once, when it is read, and never rewritten: the tree is a separate
file with a few bytes a row.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.readers.rows import COLUMNS
from adc_pipeline.corpus.readers.values import stands_for_nothing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

READ, TREE, CONVERSATIONS, SET_ASIDE = (
    "utterances-*.parquet",
    "tree.parquet",
    "conversations.parquet",
    "set_aside.parquet",
)
# With several shards, a file's rows have their positions in the piece of the source that they were read in, and the
# file's name ends in the position of the piece: what was read of one file does not depend on those before it.
FROM = "-from-"

UTTERANCES = """
SELECT r.id, r.conversation_id,
    CASE WHEN t.depth > 0 OR NOT {nothing} THEN r.reply_to END AS reply_to,
    r.speaker, r.text, r.timestamp, r.score, r.position, c.title,
    coalesce(c.source, r.source) AS source, r.stickied, r.score_hidden, r.distinguished,
    t.depth = 0 AS is_root, t.parent_position, t.depth, r.recorded_at, r.namespace{carried}
FROM read_rows AS r JOIN tree AS t USING (position) LEFT JOIN conversations AS c ON c.root_position = t.position
"""


def create_read_rows(
    connection: "DuckDBPyConnection",
    folder: Path,
    view: str = "read_rows",
    files: Sequence[tuple[str, int]] | None = None,
    before: int | None = None,
) -> None:
    """Create the view `read_rows`: every row read, with its `position` in the source, or those in some of `row_files`.

    With `before`, only rows of smaller positions. With a single shard, positions are not stored, since they are the row
    numbers.
    """
    given = row_files(folder) if files is None else files
    chosen = given or row_files(folder)[:1]
    paths, firsts = [path for path, _ in chosen], [first for _, first in chosen]
    rows = connection.read_parquet(paths, file_row_number=True, hive_partitioning=False)
    # Also where all begin at 0: columns of one file are declared in another way than those of several, so that an
    # update could not be merged (`corpus.changes.merge`).
    begin = f"{firsts}[file_index::BIGINT + 1] + " if len(chosen) > 1 or firsts[0] else ""
    if "position" in rows.columns:
        columns = f"* EXCLUDE (file_row_number) REPLACE ({begin}position AS position)"
    else:
        columns = f"{begin}file_row_number AS position, * EXCLUDE (file_row_number)"
    if before is None:
        rows = rows.project(columns)
    else:
        # A position in a file is never above that in the source, and Parquet's statistics have its range.
        in_file = "position" if "position" in rows.columns else "file_row_number"
        rows = rows.filter(f"{in_file} < {before:d}").project(columns).filter(f"position < {before:d}")
    (rows if given else rows.limit(0)).create_view(view)


def row_files(folder: Path) -> list[tuple[str, int]]:
    """Return the files of rows in a folder, each with the position that its rows begin at.

    With several shards, that is the position of the piece that the file is a part of.
    """
    import pyarrow.parquet as pq

    files = parts(folder, READ)
    if files and FROM in files[0]:
        return [(file, int(Path(file).stem.rpartition(FROM)[2])) for file in files]
    return list(
        zip(files, accumulate((pq.read_metadata(file).num_rows for file in files[:-1]), initial=0), strict=True)
    )


def create_tree(connection: "DuckDBPyConnection", folder: Path) -> None:
    """Create the views `tree` (position, parent_position, depth) and `conversations`."""
    connection.read_parquet(parts(folder, TREE), hive_partitioning=False).create_view("tree")
    connection.read_parquet(parts(folder, CONVERSATIONS), hive_partitioning=False).create_view("conversations")


def create_utterances(connection: "DuckDBPyConnection", folder: Path) -> None:
    """Create the view `utterances`: every utterance that takes part, with its place in its conversation.

    Columns: `id`, `conversation_id`, `reply_to`, `speaker`, `text`, `timestamp` (seconds), `score`,
    `position`, `title` (of a root), `source`, `stickied`, `score_hidden`, `distinguished`, `is_root`,
    `parent_position`, `depth` (0 for a root), `recorded_at` (seconds), `namespace` (`corpus.namespaces`; with
    `conversation_id` it names a conversation); then the columns that the setting `columns` carried, as text.
    """
    create_read_rows(connection, folder)
    create_tree(connection, folder)
    others = "".join(f', r."{name}"' for name in carried_columns(connection))
    connection.sql(UTTERANCES.format(carried=others, nothing=stands_for_nothing("r.reply_to"))).create_view(
        "utterances"
    )


def carried_columns(connection: "DuckDBPyConnection") -> list[str]:
    """Return the names of the columns of `read_rows` that the setting `columns` carried, which are text."""
    known = {*COLUMNS, "namespace", "missing_text", "position"}
    return [name for name in connection.table("read_rows").columns if name not in known]
