"""The interface of a reader: rows of one shape, in the order of the source, as SQL that DuckDB can stream.

A reader turns a part of a raw corpus into one or more `Rows`. The caller runs each to its end before it asks for the
next, so a reader may unpack a piece into a folder and delete it again. How sources write ids, times and numbers is
decided once, in `readers.values`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation, Expression

# Name and type of the columns that `Rows.sql` selects, in this order. A value that the source does not have is null.
# A row that could not be read is null in every column.
COLUMNS = {
    "id": "VARCHAR",
    "conversation_id": "VARCHAR",
    "reply_to": "VARCHAR",
    "speaker": "VARCHAR",
    "text": "VARCHAR",
    "timestamp": "BIGINT",  # seconds since 1970, UTC
    "score": "BIGINT",
    "stickied": "BOOLEAN",
    "score_hidden": "BOOLEAN",
    "distinguished": "VARCHAR",
    "title": "VARCHAR",
    "source": "VARCHAR",
    # When the source recorded the row, and so its score: seconds since 1970, UTC.
    "recorded_at": "BIGINT",
    # What `id` and `reply_to` name, as Reddit writes it: t3_ a post, t1_ a comment. Where posts and comments are
    # numbered apart, one id names two things. Null where the source does not tell.
    "kind": "VARCHAR",
    "parent_kind": "VARCHAR",
    # Whether the source gives a time for `timestamp` that could not be read.
    "time_unreadable": "BOOLEAN",
}

# The number of a row's file among those that are joined to one; null where that is a file by itself.
FILE_NUMBER = "adc: file number"
# Among the columns of `read_json`.
READ_FILE_NUMBER = f"\"{FILE_NUMBER}\": 'INTEGER', "
# The name of the file that a row of several files comes from, where the row names no source itself. `names` has, for
# each of the files `lines`, its name, or those of the files that are joined to it.
NAME_OF_FILE = f'$names[list_position($lines, filename)][coalesce("{FILE_NUMBER}", 1)]'


def columns_of_file(table: "DuckDBPyRelation") -> "list[Expression]":
    """Return the columns of a table of several files that `NAME_OF_FILE` needs."""
    from duckdb import ColumnExpression, ConstantExpression

    null = ConstantExpression(None).cast("INTEGER").alias(FILE_NUMBER)
    return [ColumnExpression("filename"), ColumnExpression(FILE_NUMBER) if FILE_NUMBER in table.columns else null]


def as_columns(values: Mapping[str, str]) -> str:
    """Return expressions by name as a list of columns."""
    return ", ".join(f"{value} AS {name}" for name, value in values.items())


@dataclass(frozen=True)
class Rows:
    """A query that selects `COLUMNS`, and the values of its parameters.

    `quick` is a faster query of the same rows, which raises DuckDB's error where a value is not written as usual.

    How many rows it should give is known by other means than the query: `records` is their number, or else `lines` are
    the plain files of JSON lines that the query reads, one row a line.
    """

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    records: int | None = None
    lines: Sequence[Path] = ()
    quick: str = ""
