"""Read records by their fields: known layouts (`corpus.layouts`), Reddit's in a table, tables in JSON lines or Arrow.

Each container becomes a DuckDB relation with one column a field, null where a record has no such field; the layout's
expressions, or the setting `columns`, turn these into our columns. Names from files never become part of a statement:
fields are selected through DuckDB's relational interface, and expressions refer to them by number.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from string import Formatter
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.layouts.layout import ScoreOrder
from adc_pipeline.corpus.layouts.stack_exchange import STACK_EXCHANGE_COMMENTS, STACK_EXCHANGE_POSTS
from adc_pipeline.corpus.opening.recorded_files import STACK_EXCHANGE_FILES
from adc_pipeline.corpus.readers import dumps, inner_replies, json_lines, lines, mended_json, small_files, tables, xml
from adc_pipeline.corpus.readers.arrow import write_parquet
from adc_pipeline.corpus.readers.carried import MAPPED, carried, json_text, place_of, quoted
from adc_pipeline.corpus.readers.html import html_to_text
from adc_pipeline.corpus.readers.nested import Flatten
from adc_pipeline.corpus.readers.rows import COLUMNS, FILE_NUMBER, NAME_OF_FILE, Rows, as_columns, columns_of_file
from adc_pipeline.corpus.recognition.file_fields import known_fields
from adc_pipeline.corpus.recognition.formats import Recognised, recognise

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression

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

# What an expression may refer to besides fields: columns that these add. A window or a join may change the order of
# rows, which is that of the source.
NUMBERED = "SELECT *, row_number() OVER () AS place FROM {view}"
ONLY_REPLY = "SELECT *, count(*) OVER (PARTITION BY {parent}) = 1 AS only_reply FROM ({view})"
QUESTION = """
SELECT r.*, coalesce(a.question, {post}) AS question FROM ({view}) AS r LEFT JOIN answers AS a ON a.answer = {post}
"""
COMPUTED = {"only_reply": "only_reply", "QuestionId": "question", "root": "root"}
# Where a site names no conversation: the highest utterance above each, or what that one answers outside the file. A
# loop has none.
PARENTS = """
CREATE OR REPLACE TEMP TABLE parents AS
SELECT DISTINCT {own} AS own, nullif({parent}, {own}) AS parent FROM {view} WHERE {own} IS NOT NULL
"""
ROOTS = """
CREATE OR REPLACE TEMP TABLE roots AS
WITH RECURSIVE down(own, root) AS (
    SELECT own, coalesce(parent, own) FROM parents ANTI JOIN (SELECT own AS parent FROM parents) AS known USING (parent)
    UNION SELECT parents.own, down.root FROM parents JOIN down ON parents.parent = down.own
)
SELECT own, min(root) AS root FROM down GROUP BY own
"""
WITH_ROOT = "SELECT r.*, roots.root FROM ({view}) AS r LEFT JOIN roots ON roots.own = {own}"

ANSWERS = "CREATE OR REPLACE TEMP TABLE answers (answer VARCHAR, question VARCHAR)"
ADD_ANSWERS = "INSERT INTO answers SELECT {answer}, {question} FROM {view} WHERE {question} IS NOT NULL"

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

# Views are kept apart by it, where one connection reads several files.
NUMBERS = count()


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


def rows(
    path: Path,
    what: Recognised,
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
    paths: Sequence[Path] = (),
    names: Sequence[str] = (),
    repair: bool = False,
) -> Iterator[Rows]:
    """Yield the rows of one part, in order; run each to its end before the next.

    `paths` are small files of JSON lines, or Parquet or Arrow files of one schema, that are read together, `path` being
    their first; `names` as in `Rows`.
    `columns` maps our names to the file's, for a table. `scratch` takes unpacked pieces; `report` receives the
    progress. With `repair`, texts of a Parquet file that are no UTF-8 are mended, and of JSON lines those that are too
    long for DuckDB are replaced. Raises PipelineError for a file that is damaged or ends in the middle.
    """
    create_functions(connection)
    scratch.mkdir(parents=True, exist_ok=True)
    several = len(paths) > 1
    others = carried(columns)
    source = Source(path, what, connection, scratch, report, paths if several else (), names if several else (), repair)
    if what.container == "folder":
        yield from stack_exchange_rows(path, connection, scratch, report, others)
    elif what.layout is not None:
        statement = Statement(what.layout.columns, what.layout.score_order).carry(others)
        for piece, view in source.views(statement.fields):
            if "{only_reply}" in what.layout.columns["score"]:
                numbered = NUMBERED.format(view=view)
                only = ONLY_REPLY.format(view=numbered, parent=statement.columns["reply_to"])
                yield piece.rows(statement.select(f"({only}) ORDER BY place", several))
            elif "{root}" in what.layout.columns["conversation_id"]:
                own, parent = statement.columns["id"], statement.columns["reply_to"]
                connection.execute(PARENTS.format(view=view, own=own, parent=parent))
                connection.execute(ROOTS)
                rooted = WITH_ROOT.format(view=NUMBERED.format(view=view), own=own)
                yield piece.rows(statement.select(f"({rooted}) ORDER BY place", several))
            else:
                yield piece.rows(statement.select(view, several))
    elif what.kind == "table":
        wanted = [columns.get(name, name) for name in MAPPED] + list(*tables.ALSO_CALLED.values())
        wanted += others.values()
        for piece in source.pieces(wanted):
            yield piece.rows(tables.select(path, piece.table, columns, connection, several))
    else:
        for piece in source.pieces([*dumps.FIELDS, *others.values()]):
            yield piece.rows(dumps.select(piece.table, connection, several, others))


def create_functions(connection: "DuckDBPyConnection") -> None:
    """Create what the layouts' expressions call, for the life of the connection."""
    import duckdb

    connection.execute(IS_TRUE)
    connection.execute(MEMBER)
    connection.execute(MESSAGES)
    # It may be there from the part before.
    with suppress(duckdb.Error):
        connection.create_function("html_text", html_to_text, ["VARCHAR"], "VARCHAR")


def stack_exchange_rows(
    path: Path, connection: "DuckDBPyConnection", scratch: Path, report: Report, others: Mapping[str, str]
) -> Iterator[Rows]:
    """Yield the posts and then the comments of a site, whose question is that of the post which they are on."""
    posts, comments = (
        # The name of a file says XML; it may be a table of the same fields.
        Source(path / name, recognise(path / name), connection, scratch, report) if (path / name).is_file() else None
        for name in STACK_EXCHANGE_FILES
    )
    assert posts is not None
    connection.execute(ANSWERS)
    statement = Statement(STACK_EXCHANGE_POSTS.columns).carry(others)
    answer, question = statement.sql("{Id:id}"), statement.sql("{ParentId:parent}")
    for piece, view in posts.views(statement.fields):
        connection.execute(ADD_ANSWERS.format(answer=answer, question=question, view=view))
        yield piece.rows(statement.select(view))
    if comments is None:
        return
    statement = Statement(STACK_EXCHANGE_COMMENTS.columns).carry(others)
    post = statement.sql("{PostId:id}")
    for piece, view in comments.views(statement.fields):
        joined = QUESTION.format(view=NUMBERED.format(view=view), post=post)
        yield piece.rows(statement.select(f"({joined}) ORDER BY place"))


@dataclass(frozen=True)
class Piece:
    """A piece of a file as a relation of the wanted fields; how many records it has is known by other means."""

    table: "DuckDBPyRelation"
    records: int | None = None
    # The plain files that are read, and of several the names of each.
    lines: Sequence[Path] = ()
    names: Sequence[list[str]] = ()

    def rows(self, sql: str) -> Rows:
        parameters = {"lines": list(map(str, self.lines)), "names": list(self.names)} if self.names else {}
        return Rows(sql, parameters, records=self.records, lines=() if self.records is not None else self.lines)


@dataclass(frozen=True)
class Source:
    """A file whose fields are read."""

    path: Path
    what: Recognised
    connection: "DuckDBPyConnection"
    scratch: Path
    report: Report
    # Files that are read together with `path`, which is their first, and the names of all.
    paths: Sequence[Path] = ()
    names: Sequence[str] = ()
    repair: bool = False

    def views(self, names: Sequence[str]) -> Iterator[tuple[Piece, str]]:
        """Yield each piece with the name of a view, whose columns f0, f1 and on are the fields `names` as text."""
        from duckdb import ColumnExpression, FunctionExpression

        for piece in self.pieces(names):
            view = f"fields_{next(NUMBERS)}"
            kinds = dict(zip(piece.table.columns, piece.table.types, strict=True))
            fields = [
                # As text, an object is JSON.
                (FunctionExpression("to_json", each) if kinds[name].id == "struct" else each).cast("VARCHAR")
                for name, each in zip(names, map(ColumnExpression, names), strict=True)
            ]
            chosen = [field.alias(f"f{number}") for number, field in enumerate(fields)]
            of_file = columns_of_file(piece.table) if piece.names else []
            tables.of_texts(piece.table).select(*chosen, *of_file).create_view(view)
            yield piece, view
            self.connection.execute(f"DROP VIEW {view}")

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Yield the file in pieces, in order, as relations with the fields `names`, null where it has no such field."""
        container, layout = self.what.container, self.what.layout
        known = set().union(*(known_fields(path, container, layout) for path in self.paths or [self.path]))
        places = {name: place_of(name, known) for name in names}
        read = (
            xml.json_lines if container == "xml" else Flatten(layout, container) if layout and layout.inside else None
        )
        if self.paths and read is None and container in ("parquet", "arrow"):
            with TemporaryDirectory(dir=self.scratch) as folder:
                files = list(self.paths)
                if container == "arrow":
                    copies = (Path(folder) / f"{number:06}.parquet" for number in range(len(files)))
                    files = [write_parquet(path, copy, container) for path, copy in zip(files, copies, strict=True)]
                table = select_columns(tables.open_parquets(files, self.connection), places, ["filename"])
                yield Piece(table, sum(map(tables.parquet_records, files)), files, [[name] for name in self.names])
        elif self.paths:
            with TemporaryDirectory(dir=self.scratch) as folder:
                found = dict(small_files.plain_files(self.paths, self.names, Path(folder), read))
                table = select_keys(list(found), places, self.connection, several=True)
                yield Piece(table, lines=list(found), names=list(found.values()))
        elif read is None and (container == "arrow" or (container == "parquet" and self.repair)):
            # Some layouts read their rows twice, which a stream of Arrow's batches does not allow.
            with TemporaryDirectory(dir=self.scratch) as folder:
                copy = write_parquet(self.path, Path(folder) / "rows.parquet", container)
                table = tables.open_parquet(copy, self.connection)
                yield Piece(select_columns(table, places), tables.parquet_records(copy))
        elif read is None and container == "parquet":
            table = tables.open_parquet(self.path, self.connection)
            yield Piece(select_columns(table, places), tables.parquet_records(self.path))
        elif container == "csv":
            with TemporaryDirectory(dir=self.scratch) as folder:
                table, counted = tables.open_csv(self.path, Path(folder), self.connection, self.report)
                yield Piece(select_columns(table, places), counted.records)
        # DuckDB refuses a whole file for a line that it finds too long.
        elif read is None and not self.repair and json_lines.is_one_object_a_line(self.path) and self.is_sound():
            lines.check_end(self.path)
            yield Piece(select_keys([self.path], places, self.connection), lines=[self.path])
        else:

            def whole(file: BinaryIO, path: Path) -> Iterator[bytes]:
                return map(mended_json.mended, (read or json_lines.json_lines)(file, path))

            for chunk in json_lines.chunks(self.path, self.scratch, self.report, whole):
                yield Piece(select_keys([chunk], places, self.connection), lines=[chunk])

    def is_sound(self) -> bool:
        """Return whether no line of a plain file of JSON lines is one that `mended_json.mended` mends."""
        with self.path.open("rb") as file:
            return all(map(mended_json.is_sound, lines.whole_lines(file, self.path)))


# A key of a record, and those within its objects.
Place = tuple[str, ...]


def select_keys(
    paths: Sequence[Path], places: Mapping[str, Place], connection: "DuckDBPyConnection", several: bool = False
) -> "DuckDBPyRelation":
    """Return the fields of plain files of JSON lines, null in a line without any.

    With `several`, the plain files are those of several files, and the rows tell which (`columns_of_file`).
    """
    from duckdb import ColumnExpression

    nested = {place[0] for place in places.values() if len(place) > 1}
    wanted = {place[0]: "JSON" if place[0] in nested else "VARCHAR" for place in places.values()}
    inner_keys = inner_replies.without_inner(wanted)
    records = connection.read_json(
        list(map(str, paths)),
        columns=wanted | inner_keys | ({FILE_NUMBER: "INTEGER"} if several else {}),
        format="newline_delimited",
        compression="none",
        ignore_errors=True,
        hive_partitioning=False,
        filename=several,
    )
    fields: dict[str, Expression] = {}
    for name, (outer, *inner) in places.items():
        column = ColumnExpression(outer)
        fields[name] = json_text(column, inner) if outer in nested else column
    if several:
        fields |= {name: ColumnExpression(name) for name in ("filename", FILE_NUMBER)}
    return inner_replies.refuse_inner(records, inner_keys).select(
        *(field.alias(name) for name, field in fields.items())
    )


def select_columns(
    table: "DuckDBPyRelation", places: Mapping[str, Place], others: Sequence[str] = ()
) -> "DuckDBPyRelation":
    """Return the fields of a table, null where it has none, and `others` of its columns."""
    from duckdb import ColumnExpression, ConstantExpression

    known, null = tables.column_names(table), ConstantExpression(None).cast("VARCHAR")
    there = {name: ".".join(place) for name, place in places.items()}
    fields = (tables.field(there[name], known) if there[name] in known else null for name in places)
    chosen = (field.alias(name) for name, field in zip(places, fields, strict=True))
    table = inner_replies.refuse_inner_texts(table, [place[0] for place in places.values()])
    return table.select(*chosen, *map(ColumnExpression, others))
