"""Stop the reading of JSON lines at a record that holds its replies in a list, which nobody would read.

The first lines of a file are looked at before a run (`corpus.recognition.inner_records`). A later record is found while
DuckDB reads the lines: the keys under which exports write replies are columns as well, and one that holds records
raises an error. The columns cost nothing that could be measured in a dump without such keys (611,000 lines, 2.1 CPU s).
Tables have such records as text, in JSON or in Python's notation, which pandas writes.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.corpus.opening.unfit import LostRecordsError

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

# Keys under which exports write replies, and those of the texts of these.
REPLIES = ("replies", "comments", "children", "answers", "responses")
TEXTS = ("body", "text", "content", "message", "selftext", "raw", "cooked")
# Columns of `read_json` that hold what stands under these keys.
COLUMNS = dict.fromkeys(REPLIES, "JSON")
# A condition on these columns that is never false, but raises an error.
HOLDS_NONE = " AND ".join(f"no_replies({name}, '{name}')" for name in REPLIES)
ERROR = "adc: replies inside a record under "
# Records lie in a list, in a listing of Reddit's interface, or in an object by their ids. Others have a number here, or
# a list of ids.
MACROS = rf"""
CREATE OR REPLACE TEMP MACRO keys_inside(value) AS
    json_keys(value, '$[*]') || json_keys(value, '$.data.children[*].data') || json_keys(value, '$.*');
CREATE OR REPLACE TEMP MACRO no_replies(value, key) AS
    CASE WHEN value IS NULL OR substr(ltrim(CAST(value AS VARCHAR)), 1, 1) NOT IN ('[', '{{') THEN true
         WHEN list_has_any(flatten(keys_inside(value)), {list(TEXTS)}) THEN error('{ERROR}' || key)
         ELSE true END;
CREATE OR REPLACE TEMP MACRO no_replies_as_text(value, key) AS
    CASE WHEN regexp_matches(value, '(?s)^\s*[\[{{].*["''](?:{"|".join(TEXTS)})["'']\s*:') THEN error('{ERROR}' || key)
         ELSE true END;
"""


def without_inner(columns: Collection[str]) -> dict[str, str]:
    """Return `COLUMNS` without those that are read for another purpose."""
    return {name: kind for name, kind in COLUMNS.items() if name not in columns}


def refuse_inner(records: "DuckDBPyRelation", names: Collection[str]) -> "DuckDBPyRelation":
    """Return JSON lines, of which `names` are columns of `COLUMNS`, so that reading a record with replies fails."""
    return records.filter(" AND ".join(f"no_replies({name}, '{name}')" for name in names)) if names else records


def refuse_inner_texts(table: "DuckDBPyRelation", used: Collection[str]) -> "DuckDBPyRelation":
    """Return a table, so that reading a record with replies in a column of texts that is not `used` fails."""
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    for name, kind in zip(table.columns, table.types, strict=True):
        if name.lower() in REPLIES and name not in used and kind.id == "varchar":
            key = ConstantExpression(name.lower())
            table = table.filter(FunctionExpression("no_replies_as_text", ColumnExpression(name), key))
    return table


def lost_records(error: Exception, path: Path) -> LostRecordsError | None:
    """Return the error for a file in which a record with its replies was found; None for another error of DuckDB."""
    found = re.search(re.escape(ERROR) + r"(\w+)", str(error))
    return inner_records_error(path, found[1]) if found else None


def inner_records_error(path: Path, key: str, answers: str = ", with the id of what it answers") -> LostRecordsError:
    """Return the error for records under the key `key` of others; `answers` is empty if they answer none of these."""
    return LostRecordsError(
        f"{path}, which the setting corpus names, holds records inside its records, under the key {key}, which would be"
        f" left out: write each of these on a line of its own{answers}."
    )
