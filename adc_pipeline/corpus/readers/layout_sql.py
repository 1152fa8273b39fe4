"""The SQL of a layout (`corpus.layouts`): its expressions over a file's fields as a query of our columns.

Names from files never become part of a statement: expressions refer to fields by number.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from string import Formatter
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.layouts.layout import ScoreOrder
from adc_pipeline.corpus.readers.carried import quoted
from adc_pipeline.corpus.readers.html import html_to_text
from adc_pipeline.corpus.readers.rows import COLUMNS, NAME_OF_FILE, as_columns

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# How a column of ours is read from text; the others are text themselves.
READ = {
    "timestamp": "seconds({})",
    "score": "score_number({})",
    "stickied": "truth({})",
    "score_hidden": "truth({})",
    "distinguished": "mark({})",
}
# Whether a record has any of the fields, and its time as it is written; no column of a file has these names.
SOMETHING, WRITTEN_TIME = '"adc: something"', '"adc: written time"'
# How a field is read where an expression says so.
SPECS = {
    "": "{}",
    "id": "CASE WHEN NOT is_no_id({0}) THEN text_id({0}) END",
    "parent": "CASE WHEN NOT is_nothing({0}) THEN text_parent({0}) END",
    "number": "CASE WHEN NOT is_nothing({0}) THEN {0} END",
}

IS_TRUE = "CREATE OR REPLACE TEMP MACRO is_true(written) AS coalesce(truth(written), false)"

# What an expression may refer to besides fields: columns that `corpus.part_rows` adds.
COMPUTED = {"only_reply": "only_reply", "QuestionId": "question", "root": "root"}

# A member of an object, which is JSON: OpenAssistant writes its labels as objects of a value and a count, or as a list
# of names and a list of values.
INNER = re.compile("[A-Za-z0-9_.-]+")
MEMBER = """
CREATE OR REPLACE TEMP MACRO member(object, name) AS CASE WHEN json_valid(object) THEN coalesce(
    json_extract_string(object, '$."' || name || CASE json_type(json_extract(object, '$."' || name || '"'))
        WHEN 'OBJECT' THEN '".value' ELSE '"' END),
    from_json(json_extract(object, '$.value'), '["VARCHAR"]')[
        list_position(from_json(json_extract(object, '$.name'), '["VARCHAR"]'), name)]
) END
"""

# How many reactions a message got: the sum over its list of them. Telegram writes a text with links and the like as a
# list of its pieces.
MESSAGES = """
CREATE OR REPLACE TEMP MACRO reactions(listed) AS coalesce(CASE WHEN json_valid(listed)
    THEN list_sum(TRY_CAST(json_extract_string(listed, '$[*].count') AS BIGINT[])) END, 0)::VARCHAR;
CREATE OR REPLACE TEMP MACRO pieces(written) AS
    CASE WHEN NOT starts_with(written, '[') OR NOT json_valid(written)
             OR json_type(written, '$[0]') NOT IN ('VARCHAR', 'OBJECT') THEN written
         ELSE array_to_string(list_transform(json_extract(written, '$[*]'),
             lambda piece: coalesce(json_extract_string(piece, '$.text'), piece ->> '$')), '') END;
"""


class Statement:
    """The SQL of a layout's columns over a view whose columns f0, f1 and on are the fields of a file, as text."""

    def __init__(self, columns: Mapping[str, str], score_order: ScoreOrder = "higher") -> None:
        self.fields: list[str] = []
        self.score_order = score_order
        self.columns = {name: self.sql(text) for name, text in columns.items()}

    def sql(self, text: str) -> str:
        """Return an expression with its fields replaced by columns of the view."""
        parts = []
        for literal, name, spec, _ in Formatter().parse(text):
            parts.append(literal)
            if name:
                parts.append(SPECS[spec or ""].format(COMPUTED.get(name) or self.column(name)))
        return "".join(parts)

    def column(self, name: str) -> str:
        if name not in self.fields:
            self.fields.append(name)
        return f"f{self.fields.index(name)}"

    def carry(self, columns: Mapping[str, str]) -> "Statement":
        """Add columns that are carried as they are."""
        for name, field in zip(quoted(columns), columns.values(), strict=True):
            outer, dot, inner = field.partition(".")
            if dot and not INNER.fullmatch(inner):
                raise PipelineError(
                    f"The setting columns names the field {field}: write a field inside another with letters, digits,"
                    " underscores and hyphens, such as labels.quality."
                )
            is_member = dot and "." not in inner
            self.columns[name] = f"member({self.column(outer)}, '{inner}')" if is_member else self.column(field)
        return self

    def select(self, source: str, several: bool = False) -> str:
        """Return the query of our columns; a record from which nothing could be read is null in each."""
        something = f"coalesce({', '.join(map(self.column, list(self.fields)))}) IS NOT NULL"
        # Each step has the columns of the one before it: a macro's argument is written out wherever the macro uses it,
        # and planning the longest of our expressions within each other took 0.3 s.
        found = self.columns | {SOMETHING: something, WRITTEN_TIME: self.columns["timestamp"]}
        if several:
            found["source"] = f"coalesce({found.get('source', 'NULL')}, {NAME_OF_FILE})"
        values = {name: READ.get(name, "{}").format(name) for name in found}
        if self.score_order == "lower":
            # Everything downstream takes a higher score for the better one.
            values["score"] = f"-({values['score']})"
        steps = f"SELECT {as_columns(values)} FROM (SELECT {as_columns(found)} FROM {source})"  # noqa: S608
        finished = {name: name for name in found} | {"time_unreadable": f"is_unreadable(timestamp, {WRITTEN_TIME})"}
        columns = ", ".join(
            f"CASE WHEN {SOMETHING} THEN {finished.get(name, 'NULL')} END::{kind} AS {name}"
            for name, kind in (COLUMNS | {name: "VARCHAR" for name in self.columns if name not in COLUMNS}).items()
        )
        return f"SELECT {columns} FROM ({steps})"  # noqa: S608


def create_functions(connection: "DuckDBPyConnection") -> None:
    """Create what the layouts' expressions call, for the life of the connection."""
    import duckdb

    connection.execute(IS_TRUE)
    connection.execute(MEMBER)
    connection.execute(MESSAGES)
    # It may be there from the part before.
    with suppress(duckdb.Error):
        connection.create_function("html_text", html_to_text, ["VARCHAR"], "VARCHAR")
