"""Read records by their fields: the known layouts (`corpus.layouts`), and tables in JSON lines, Arrow or XML.

Each container becomes a DuckDB relation with one text column a field, null where a record has no such field; the
layout's expressions, or the setting `columns`, turn these into our columns. Names from files never become part of a
statement: fields are selected through DuckDB's relational interface, and expressions refer to them by number.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, NamedTuple

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.formats import Container, Recognised, known_fields
from adc_pipeline.corpus.layouts import STACK_EXCHANGE_COMMENTS, STACK_EXCHANGE_POSTS
from adc_pipeline.corpus.packings import packing
from adc_pipeline.corpus.readers import lines, tables, xml
from adc_pipeline.corpus.readers.arrow import open_arrow
from adc_pipeline.corpus.readers.rows import COLUMNS, Rows
from adc_pipeline.corpus.recorded_files import STACK_EXCHANGE_FILES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression

# How a column of ours is read from text; the others are text themselves.
READ = {
    "timestamp": "seconds({})",
    "recorded_at": "seconds({})",
    "score": "whole_number({})",
    "stickied": "try_cast({} AS BOOLEAN)",
    "score_hidden": "try_cast({} AS BOOLEAN)",
}
# How a field is read where an expression says so, and those of a table by our own names.
SPECS = {"": "{}", "id": "text_id({})", "parent": "text_parent({})"}
OWN_SPECS = {"id": "id", "conversation_id": "id", "reply_to": "parent"}

MACROS = "CREATE OR REPLACE TEMP MACRO is_true(written) AS coalesce(try_cast(written AS BOOLEAN), false)"

# What an expression may refer to besides fields: columns that these add. A window or a join may change the order of
# rows, which is that of the source.
NUMBERED = "SELECT *, row_number() OVER () AS place FROM {view}"
ONLY_REPLY = "SELECT *, count(*) OVER (PARTITION BY {parent}) = 1 AS only_reply FROM ({view})"
QUESTION = """
SELECT r.*, coalesce(a.question, {post}) AS question FROM ({view}) AS r LEFT JOIN answers AS a ON a.answer = {post}
"""
COMPUTED = {"only_reply": "only_reply", "QuestionId": "question"}

ANSWERS = "CREATE OR REPLACE TEMP TABLE answers (answer VARCHAR, question VARCHAR)"
ADD_ANSWERS = "INSERT INTO answers SELECT {answer}, {question} FROM {view} WHERE {question} IS NOT NULL"

# Views are kept apart by it, where one connection reads several files.
NUMBERS = count()


class Field(NamedTuple):
    """A field that is a column of ours as it is, for the expressions' sake without braces: its name may hold some."""

    name: str
    spec: str


class Statement:
    """The SQL of our columns over a view whose columns f0, f1 and on are the fields of a file, as text."""

    def __init__(self, columns: Mapping[str, str | Field]) -> None:
        self.fields: list[str] = []
        self.columns = {
            name: self.sql(value) if isinstance(value, str) else SPECS[value.spec].format(self.column(value.name))
            for name, value in columns.items()
        }

    def sql(self, text: str) -> str:
        """Return an expression of a layout with its fields replaced by columns of the view."""
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

    def select(self, source: str) -> str:
        """Return the query of our columns; a record from which nothing could be read is null in each."""
        something = f"coalesce({', '.join(map(self.column, list(self.fields)))}) IS NOT NULL"
        columns = ", ".join(
            f"CASE WHEN {something} THEN {READ.get(name, '{}').format(self.columns.get(name, 'NULL'))} END::{kind}"
            f" AS {name}"
            for name, kind in COLUMNS.items()
        )
        return f"SELECT {columns} FROM {source}"  # noqa: S608


def rows(
    path: Path,
    what: Recognised,
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
) -> Iterator[Rows]:
    """Yield the rows of one part, in order; run each to its end before the next.

    `columns` maps our names to the file's, for a table. `scratch` takes unpacked pieces; `report` receives the
    progress. Raises PipelineError for a file that is damaged or ends in the middle.
    """
    connection.execute(MACROS)
    if what.container == "folder":
        yield from stack_exchange_rows(path, connection, scratch, report)
        return
    statement = Statement(what.layout.columns if what.layout else own_columns(path, what.container, columns))
    alone = what.layout is not None and "{only_reply}" in what.layout.columns["score"]
    for view in views(path, what.container, statement, connection, scratch, report):
        source = view
        if alone:
            numbered = NUMBERED.format(view=view)
            only = ONLY_REPLY.format(view=numbered, parent=statement.columns["reply_to"])
            source = f"({only}) ORDER BY place"
        yield Rows(statement.select(source))


def own_columns(path: Path, container: Container, columns: Mapping[str, str]) -> dict[str, str | Field]:
    """Return the fields of a table by our names or those of the setting `columns`, for what it has of them."""
    known = known_fields(path, container)
    names = {name: columns.get(name, name) for name in COLUMNS}
    return {name: Field(field, OWN_SPECS.get(name, "")) for name, field in names.items() if field in known}


def stack_exchange_rows(path: Path, connection: "DuckDBPyConnection", scratch: Path, report: Report) -> Iterator[Rows]:
    """Yield the posts and then the comments of a site, whose question is that of the post which they are on."""
    posts, comments = (path / name for name in STACK_EXCHANGE_FILES)
    connection.execute(ANSWERS)
    statement = Statement(STACK_EXCHANGE_POSTS.columns)
    answer, question = statement.sql("{Id:id}"), statement.sql("{ParentId:parent}")
    for view in views(posts, "xml", statement, connection, scratch, report):
        connection.execute(ADD_ANSWERS.format(answer=answer, question=question, view=view))
        yield Rows(statement.select(view))
    if not comments.is_file():
        return
    statement = Statement(STACK_EXCHANGE_COMMENTS.columns)
    post = statement.sql("{PostId:id}")
    for view in views(comments, "xml", statement, connection, scratch, report):
        joined = QUESTION.format(view=NUMBERED.format(view=view), post=post)
        yield Rows(statement.select(f"({joined}) ORDER BY place"))


def views(
    path: Path,
    container: Container,
    statement: Statement,
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report,
) -> Iterator[str]:
    """Yield the names of views that hold the fields of a statement, for one piece of the file after the other."""
    known = known_fields(path, container)
    places = [locate(field, known) for field in statement.fields]
    for relation in relations(path, container, places, connection, scratch, report):
        view = f"fields_{next(NUMBERS)}"
        relation.create_view(view)
        yield view
        connection.execute(f"DROP VIEW {view}")


# A key of a record, and the key within its object or none.
Place = tuple[str, str]


def locate(field: str, known: set[str]) -> Place:
    """Return where a field stands, by the spelling of the file; `known` are its keys, dotted where nested."""
    spelled = {name.lower(): name for name in known}.get(field.lower(), field)
    outer, _, inner = spelled.partition(".")
    return (outer, inner) if outer in known else (spelled, "")


def relations(
    path: Path,
    container: Container,
    places: list[Place],
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report,
) -> "Iterator[DuckDBPyRelation]":
    """Yield relations with the fields at `places` as text columns f0, f1 and on, for one piece of the file each."""
    if container == "parquet":
        yield select_columns(tables.open_parquet(path, connection), places)
    elif container == "arrow":
        with open_arrow(path) as reader:
            yield select_columns(connection.from_arrow(reader), places)
    elif container == "csv":
        yield select_columns(tables.open_csv(path, connection, f"rejects_{next(NUMBERS)}"), places)
    elif container == "lines" and packing(path) == "none" and not lines.has_mark(path):
        lines.check_end(path)
        yield select_keys(path, places, connection)
    else:
        for chunk in lines.chunks(path, scratch, report, xml.json_lines if container == "xml" else None):
            yield select_keys(chunk, places, connection)


def select_keys(path: Path, places: list[Place], connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    """Return the fields of a plain file of JSON lines; a line that is no object is null in each."""
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    types = {outer: "JSON" if inner else "VARCHAR" for outer, inner in sorted(places, key=lambda place: place[1])}
    records = connection.read_json(
        str(path),
        columns=types,
        format="newline_delimited",
        compression="none",
        ignore_errors=True,
        hive_partitioning=False,
    )
    fields = [
        FunctionExpression("json_extract_string", ColumnExpression(outer), ConstantExpression(f'$."{inner}"'))
        if inner
        else ColumnExpression(outer).cast("VARCHAR")
        for outer, inner in places
    ]
    return numbered(records, fields)


def select_columns(table: "DuckDBPyRelation", places: list[Place]) -> "DuckDBPyRelation":
    """Return the fields of a table; what it does not have is null."""
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    types = {name: str(kind) for name, kind in zip(table.columns, table.types, strict=True)}
    fields = []
    for outer, inner in places:
        if outer not in types or (inner and not types[outer].startswith("STRUCT")):
            field = ConstantExpression(None)
        elif inner:
            field = FunctionExpression("struct_extract", ColumnExpression(outer), ConstantExpression(inner))
        else:
            field = ColumnExpression(outer)
        fields.append(field.cast("VARCHAR"))
    return numbered(table, fields)


def numbered(table: "DuckDBPyRelation", fields: "list[Expression]") -> "DuckDBPyRelation":
    return table.select(*(field.alias(f"f{number}") for number, field in enumerate(fields)))
