"""The rows of a part of a raw corpus, or of several small parts that are read together, by the reader of their kind."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.fields import Source
from adc_pipeline.corpus.layouts.layout import Layout
from adc_pipeline.corpus.layouts.stack_exchange import STACK_EXCHANGE_COMMENTS, STACK_EXCHANGE_POSTS
from adc_pipeline.corpus.opening.recorded_files import STACK_EXCHANGE_FILES
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.readers import convokit, dumps, tables
from adc_pipeline.corpus.readers.carried import carried
from adc_pipeline.corpus.readers.layout_sql import Statement, create_functions
from adc_pipeline.corpus.readers.rows import Rows
from adc_pipeline.corpus.recognition.formats import recognise

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What an expression of a layout may refer to besides fields: columns that these add. A window or a join may change the
# order of rows, which is that of the source.
NUMBERED = "SELECT *, row_number() OVER () AS place FROM {view}"
ONLY_REPLY = "SELECT *, count(*) OVER (PARTITION BY {parent}) = 1 AS only_reply FROM ({view})"
QUESTION = """
SELECT r.*, coalesce(a.question, {post}) AS question FROM ({view}) AS r LEFT JOIN answers AS a ON a.answer = {post}
"""
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


def read_parts(
    batch: Sequence[Part],
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
    repair: bool = False,
) -> Generator[Rows, None, None]:
    """Yield the rows of some parts of one kind, in order; run each to its end before the next.

    `columns` maps our names to a table's. `scratch` takes unpacked pieces; `report` receives the progress. With
    `repair`, rows are accepted that DuckDB cannot read, in a slower way. Raises PipelineError for a file that is
    damaged or ends in the middle, and for a table that lacks columns.
    """
    part, others, several = batch[0], carried(columns), len(batch) > 1
    paths, names = [part.path for part in batch], [part.name for part in batch]
    scratch.mkdir(parents=True, exist_ok=True)
    match part.what.kind, part.what.container:
        case "convokit", _ if several:
            yield from convokit.rows_of_folders(paths, names, scratch)
        case "convokit", _:
            yield from convokit.rows(part.path, connection, scratch, report, repair, others)
        case "submissions" | "comments", "lines" if several:
            yield from dumps.rows_of_files(paths, names, connection, scratch)
        case "submissions" | "comments", "lines":
            yield from dumps.rows(part.path, connection, scratch, report, repair, others)
        case "layout", "folder":
            create_functions(connection)
            yield from stack_exchange_rows(part.path, connection, scratch, report, others)
        case "table", container:
            has_columns = container in ("csv", "parquet")
            scores = tables.check_columns(part.path, columns)["score"] if has_columns else None
            source = Source(paths, part.what, connection, scratch, report, names, repair, scores)
            for piece in source.pieces([*tables.wanted(columns), *others.values()]):
                yield piece.rows(tables.select(piece.table, columns, connection, several, piece.points))
        case _:
            source = Source(paths, part.what, connection, scratch, report, names, repair)
            if part.what.layout is not None:
                create_functions(connection)
                yield from layout_rows(source, part.what.layout, others)
                return
            for piece in source.pieces([*dumps.FIELDS, *others.values()]):
                yield piece.rows(dumps.select(piece.table, connection, several, others))


def layout_rows(source: Source, layout: Layout, others: Mapping[str, str]) -> Iterator[Rows]:
    """Yield the rows of files of a layout."""
    statement = Statement(layout.columns, layout.score_order).carry(others)
    for piece, view in source.views(statement.fields):
        if "{only_reply}" in layout.columns["score"]:
            numbered = NUMBERED.format(view=view)
            view = f"({ONLY_REPLY.format(view=numbered, parent=statement.columns['reply_to'])}) ORDER BY place"
        elif "{root}" in layout.columns["conversation_id"]:
            own, parent = statement.columns["id"], statement.columns["reply_to"]
            source.connection.execute(PARENTS.format(view=view, own=own, parent=parent))
            source.connection.execute(ROOTS)
            view = f"({WITH_ROOT.format(view=NUMBERED.format(view=view), own=own)}) ORDER BY place"
        yield piece.rows(statement.select(view, source.several))


def stack_exchange_rows(
    path: Path, connection: "DuckDBPyConnection", scratch: Path, report: Report, others: Mapping[str, str]
) -> Iterator[Rows]:
    """Yield the posts and then the comments of a site, whose question is that of the post which they are on."""
    posts, comments = (
        # The name of a file says XML; it may be a table of the same fields.
        Source([path / name], recognise(path / name), connection, scratch, report) if (path / name).is_file() else None
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
