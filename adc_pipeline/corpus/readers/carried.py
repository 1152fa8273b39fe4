"""Columns of a source that the setting `columns` carries into `utterances` as they are, besides those of an utterance.

`columns: {accepted_reply: AcceptedAnswerId}` adds a column `accepted_reply` of text. Its name becomes part of SQL
statements, so it has to be a plain name; the name of the source's field never does. `rank_by` of `ranked_replies` ranks
by such a column. A corpus without such columns is read as if there were no such setting.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.corpus.readers.rows import COLUMNS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression

# What readers conclude, and no table has.
CONCLUDED = ("kind", "parent_kind", "time_unreadable")
MAPPED = tuple(name for name in COLUMNS if name not in CONCLUDED)
# Without one of these a table holds no ranked conversations.
NEEDED = ("id", "conversation_id", "reply_to", "text", "score")
# The column of an utterance that names its accepted reply.
ACCEPTED_REPLY = "accepted_reply"

EMPTY: Mapping[str, str] = MappingProxyType({})

NAME = re.compile("[a-z][a-z0-9_]{0,62}")
# Columns of the tables that the stages write, and values of `rank_by`.
TAKEN = {
    *COLUMNS, "namespace", "missing_text", "position", "shard", "filename", "file_row_number", "file_index", "is_root",
    "parent_position", "depth", "replies", "rank", "siblings",
}  # fmt: skip


def carried(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the source's name of each column that is carried; raise PipelineError for a name no column can have."""
    for name, field in columns.items():
        # DuckDB takes the second for every column.
        if field in ("", "*"):
            raise PipelineError(
                f"The setting columns maps {name} to {field!r}, which is no name of a column: correct it."
            )
    found = {name: field for name, field in columns.items() if name not in MAPPED}
    for name in found:
        similar = did_you_mean(name, MAPPED)
        if name in TAKEN or similar or not NAME.fullmatch(name):
            why = "is a name of the pipeline's own" if name in TAKEN else f"no utterance has{similar}"
            raise PipelineError(
                f"The setting columns maps {name}, which {why}: the columns of an utterance are"
                f" {', '.join(MAPPED)}; the name of another one has small letters, digits and underscores."
            )
    return found


def own(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the source's name of each column of an utterance that the setting `columns` maps."""
    return {name: field for name, field in columns.items() if name in MAPPED}


def spelled(name: str, fields: Collection[str]) -> str:
    """Return a field's name as a file spells it: in the same case if it can be, else in another; `name` without any."""
    return name if name in fields else min((each for each in fields if each.lower() == name.lower()), default=name)


def place_of(name: str, fields: Collection[str]) -> tuple[str, ...]:
    """Return where a field stands: a key, and the keys within its objects.

    `fields` are the known ones, dotted where nested. A point may also be part of a key; but a field that is not known
    stands inside an object that only later records have.
    """
    found, begin, place = spelled(name, fields), 0, []
    if found not in fields and found.partition(".")[0] not in fields:
        return tuple(found.split("."))
    for end in (at for at, sign in enumerate(found) if sign == "."):
        if found[:end] in fields:
            place.append(found[begin:end])
            begin = end + 1
    return (*place, found[begin:])


def quoted(names: Mapping[str, str]) -> list[str]:
    """Return names of carried columns as they stand in a statement."""
    return [f'"{name}"' for name in names]


def selected(others: Mapping[str, str]) -> str:
    """Return the end of a list of columns that selects `carried_0` and on under the names of carried columns."""
    return "".join(f", carried_{number} AS {name}" for number, name in enumerate(quoted(others)))


def open_lines(chunk: Path, columns: Mapping[str, str], connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    """Return plain JSON lines as a relation; the names of fields are values, which only such a relation takes.

    A name with a point is a key, or leads into an object under a key that is none of `columns`.
    """
    from duckdb import CoalesceOperator, ColumnExpression

    inside = {name: name.split(".") for name in columns if "." in name and name.partition(".")[0] not in columns}
    records = connection.read_json(
        str(chunk),
        columns={**columns, **{path[0]: "JSON" for path in inside.values()}},
        format="newline_delimited",
        compression="none",
        ignore_errors=True,
        hive_partitioning=False,
    )
    fields = {name: ColumnExpression(name) for name in columns}
    for name, path in inside.items():
        found = CoalesceOperator(fields[name], json_text(ColumnExpression(path[0]), path[1:]))
        fields[name] = found.alias(name)
    return records.select(*fields.values())


def json_text(value: "Expression", path: Sequence[str]) -> "Expression":
    """Return what stands in a JSON object under a key, and the keys within its objects, as text."""
    from duckdb import ConstantExpression, FunctionExpression

    place = "$" + "".join(f".{json.dumps(key, ensure_ascii=False)}" for key in path)
    return FunctionExpression("json_extract_string", value, ConstantExpression(place))
