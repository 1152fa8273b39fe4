"""Read Reddit dumps as Pushshift and Arctic Shift publish them: submissions and comments, one JSON object a line.

Ids lose their `t1_` and `t3_`, as in ConvoKit's corpora, so that a conversation is in the same split whichever way it
came; `kind` and `parent_kind` keep them apart, since a post and a comment may have the same id. The keys of a line
decide whether it is a post or a comment, so a file may hold both. DuckDB reads a plain file in place; a compressed one
is unpacked piece by piece (`readers.json_lines`).

For some years Pushshift wrote the parent of a comment as a number (the id in base 10), and as null where the parent is
the post: https://github.com/voussoir/timesearch/issues/19. Both are mended here, since a comment without a parent
would pass for a root. A comment that names no post has no conversation and is set aside.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.readers import inner_replies, json_lines, lines, small_files, tables
from adc_pipeline.corpus.readers.carried import EMPTY, open_lines, selected
from adc_pipeline.corpus.readers.rows import NAME_OF_FILE, READ_FILE_NUMBER, Rows, columns_of_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression

# `parent_id` is read as JSON, with its quotes, because only a number is in base 10: a string of digits is an id in base
# 36 like any other. All but a few parents take the first, cheap case.
PARENT = r"""
CREATE OR REPLACE TEMP MACRO parent_name(value) AS
    CASE WHEN (prefix(value, '"t1_') OR prefix(value, '"t3_')) AND NOT (contains(value, '\') OR suffix(value, ' "'))
             THEN substr(value, 2, length(value) - 2)
         WHEN starts_with(value, '"')
             THEN CASE WHEN NOT is_nothing(json_text(value)) THEN without_spaces(json_text(value)) END
         WHEN regexp_full_match(CAST(value AS VARCHAR), '[0-9]{1,18}')
             THEN 't1_' || lower(to_base(try_cast(CAST(value AS VARCHAR) AS BIGINT), 36)) END;
CREATE OR REPLACE TEMP MACRO unless_nothing(name) AS CASE WHEN NOT is_nothing(name) THEN name END;
CREATE OR REPLACE TEMP MACRO field_of_a_post(post, parent, content) AS
    CASE WHEN NOT (post IS NULL AND parent IS NULL AND content <> '' AND is_nothing(content)) THEN content END;
"""

# The fields of Reddit's records that are read, and as what.
FIELDS = {
    **dict.fromkeys(("id", "name", "display_name", "link_id"), "VARCHAR"),
    "parent_id": "JSON",
    **dict.fromkeys(
        ("author", "body", "selftext", "title", "subreddit", "created_utc", "created", "score", "ups"), "VARCHAR"
    ),
    **dict.fromkeys(("stickied", "score_hidden", "hide_score", "distinguished"), "VARCHAR"),
    **dict.fromkeys(("retrieved_on", "retrieved_utc", "retrieved_after", "updated_utc"), "VARCHAR"),
    "_meta": "STRUCT(retrieved_2nd_on VARCHAR)",
}
LINES = """read_json($lines, format = 'newline_delimited', compression = 'none', ignore_errors = true,
    hive_partitioning = false, columns = {{{columns}}}, filename = true)""".format(
    columns=", ".join(f"{name}: '{kind}'" for name, kind in {**FIELDS, **inner_replies.COLUMNS}.items())
)

# In a table of both, a post may have empty texts in the fields of comments.
# A comment that names no parent, or itself, answers its post. A line that names a subreddit or an account keeps that
# kind, by which it is set aside. A post hides its score by another key than a comment does.
READ = """
SELECT id, conversation_id,
    CASE WHEN is_comment THEN
        CASE WHEN parent IS NULL OR parent_kind = 't1_' AND parent = id THEN conversation_id ELSE parent END
    END AS reply_to,
    author AS speaker, CASE WHEN is_comment THEN body ELSE coalesce(nullif(selftext, ''), body, selftext) END AS text,
    timestamp, score_number(coalesce(score, ups)) AS score, truth(stickied) AS stickied,
    coalesce(truth(score_hidden), truth(hide_score)) AS score_hidden, mark(distinguished) AS distinguished,
    CASE WHEN NOT is_comment THEN title END AS title, {name} AS source,
    recorded(timestamp, recording, after) AS recorded_at,
    CASE WHEN is_comment THEN 't1_' WHEN display_name IS NOT NULL THEN 't5_'
         WHEN coalesce(full_name, author, title, selftext) IS NOT NULL THEN coalesce(kind_of(full_name), 't3_')
    END AS kind,
    CASE WHEN is_comment THEN
        CASE WHEN parent IS NULL OR parent_kind = 't1_' AND parent = id THEN 't3_'
             WHEN parent_kind IS NOT NULL THEN parent_kind WHEN parent = conversation_id THEN 't3_' ELSE 't1_' END
    END AS parent_kind,
    is_unreadable(timestamp, written_time) AS time_unreadable{carried}
FROM (
    SELECT * EXCLUDE (id, parent), without_kind(full_name) AS id,
        CASE WHEN is_comment THEN without_kind(link_id) ELSE without_kind(full_name) END AS conversation_id,
        without_kind(parent) AS parent, kind_of(parent) AS parent_kind,
        {times},
        seconds(retrieved_after) AS after
    FROM (
        SELECT * REPLACE (without_spaces(link_id) AS link_id),
            CASE WHEN id IS NULL OR kind_of(name) NOT IN ('t1_', 't3_') THEN name
                 ELSE without_spaces(id) END AS full_name,
            parent_name(parent_id) AS parent,
            coalesce(link_id <> '' OR CAST(parent_id AS VARCHAR) <> '""' OR body <> '' AND title = '', false)
                OR title IS NULL AND (link_id IS NOT NULL OR parent_id IS NOT NULL OR body IS NOT NULL) AS is_comment
        FROM {source}
    )
)
"""
RECORDED_AGAIN = "coalesce(nullif(_meta.retrieved_2nd_on, '0'), nullif(updated_utc, '0'), nullif(retrieved_utc, '0'){})"
TIMES = f"""seconds(coalesce(created_utc, created)) AS timestamp, coalesce(created_utc, created) AS written_time,
        seconds({RECORDED_AGAIN.format(", retrieved_on")}) AS recording"""
WHERE = f" WHERE {inner_replies.HOLDS_NONE}"
READ_LINES = READ.format(source=LINES + WHERE, name="subreddit", times=TIMES, carried="")
NUMBERED_LINES = LINES.replace("columns = {", "columns = {" + READ_FILE_NUMBER, 1) + WHERE
READ_FILES = READ.format(source=NUMBERED_LINES, name=f"coalesce(subreddit, {NAME_OF_FILE})", times=TIMES, carried="")
# Times as numbers, of which there are two in most lines. A missing recording may be 0.
COUNTED_TIMES = f"""
        CASE WHEN created_utc IS NULL THEN seconds(created) ELSE counted_seconds(created_utc) END AS timestamp,
        CASE WHEN created_utc IS NULL THEN created END AS written_time,
        CASE WHEN {RECORDED_AGAIN.format("")} IS NULL THEN counted_seconds(nullif(retrieved_on, 0))
             ELSE seconds({RECORDED_AGAIN.format("")}) END AS recording"""
STRICT_LINES = LINES.replace(" ignore_errors = true,", "")
for name in ("created_utc", "retrieved_on"):
    STRICT_LINES = STRICT_LINES.replace(f"{name}: 'VARCHAR'", f"{name}: 'DOUBLE'")
QUICK = READ.format(source=STRICT_LINES + WHERE, name="subreddit", times=COUNTED_TIMES, carried="")

# Keeps views apart where one connection reads several tables.
NUMBERS = count()


def select(
    table: "DuckDBPyRelation", connection: "DuckDBPyConnection", several: bool, others: Mapping[str, str]
) -> str:
    """Return the query of our columns over a table with the columns `FIELDS`, of any types and null where it has none.

    `others` are the columns that are carried besides them (`readers.carried`), by our names. The table's view stays for
    the life of the connection. With `several`, the table is that of several files, whose paths its column `filename`
    has.
    """
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    connection.execute(PARENT)
    table = tables.of_texts(table)
    kinds = dict(zip(table.columns, map(str, table.types), strict=True))
    if kinds["parent_id"] != "JSON":
        table = with_ids(table, kinds)
    columns = {name: ColumnExpression(name).cast("VARCHAR") for name in FIELDS if name != "parent_id"}
    columns["parent_id"] = ColumnExpression("parent_id")
    has_second = kinds["_meta"].startswith("STRUCT(") and "retrieved_2nd_on" in kinds["_meta"]
    second = FunctionExpression("struct_extract", ColumnExpression("_meta"), ConstantExpression("retrieved_2nd_on"))
    columns["_meta"] = FunctionExpression(
        "struct_pack", (second if has_second else ConstantExpression(None)).cast("VARCHAR").alias("retrieved_2nd_on")
    )
    view = f"dump_{next(NUMBERS)}"
    chosen = [column.alias(name) for name, column in columns.items()]
    chosen += [
        ColumnExpression(field).cast("VARCHAR").alias(f"carried_{at}") for at, field in enumerate(others.values())
    ]
    table.select(*chosen, *(columns_of_file(table) if several else [])).create_view(view)
    name = f"coalesce(subreddit, {NAME_OF_FILE})" if several else "subreddit"
    return READ.format(source=view, name=name, times=TIMES, carried=selected(others))


def with_ids(table: "DuckDBPyRelation", kinds: Mapping[str, str]) -> "DuckDBPyRelation":
    """Return a table whose columns with ids are texts, with a number as its digits, and nothing as null.

    `kinds` are the types of all columns. Programs write numbers as floats, and what is missing as a text such as nan,
    which would make a comment of a post. A number of a parent beside names of posts is in base 10, as in a dump. Each
    step has the columns of the one before it: within each other the macros took half a second to plan.
    """
    from duckdb import ColumnExpression, FunctionExpression

    def replaced(table: "DuckDBPyRelation", columns: "Mapping[str, Expression]") -> "DuckDBPyRelation":
        return table.select(*(columns.get(name, ColumnExpression(name)).alias(name) for name in table.columns))

    def text(column: str) -> "Expression":
        return ColumnExpression(column).cast("VARCHAR")

    ids, parents = ("id", "link_id", "parent_id"), ("link_id", "parent_id")
    table = replaced(table, {name: FunctionExpression(tables.id_macro(kinds[name]), text(name)) for name in ids})
    table = replaced(table, {name: FunctionExpression("unless_nothing", ColumnExpression(name)) for name in parents})
    link, parent = map(ColumnExpression, parents)
    columns = {
        name: FunctionExpression("field_of_a_post", link, parent, text(name)) for name in ("body", "selftext", "title")
    }
    is_number = "INT" in kinds["parent_id"] or kinds["parent_id"] == "DOUBLE"
    in_base_10 = is_number and kinds["link_id"] == kinds["id"] == "VARCHAR"
    columns["parent_id"] = FunctionExpression("to_json", parent.cast("BIGINT") if in_base_10 else parent)
    return replaced(table, columns)


def rows(
    path: Path,
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
    unpack: bool = False,
    others: Mapping[str, str] = EMPTY,
) -> Iterator[Rows]:
    """Yield the rows of one dump, in order; run each to its end before the next.

    `scratch` takes unpacked pieces; `report` receives the progress. With `unpack` a plain file goes through
    `readers.json_lines` too, which replaces the lines that are too long for DuckDB. Raise PipelineError for a file that
    is damaged or truncated.
    """
    connection.execute(PARENT)
    if others:
        read = {**FIELDS, **{field: FIELDS.get(field, "VARCHAR") for field in others.values()}}
        for chunk in json_lines.chunks(path, scratch, report, json_lines.mended_json_lines):
            inner = inner_replies.without_inner(read)
            table = inner_replies.refuse_inner(open_lines(chunk, read | inner, connection), inner)
            yield Rows(select(table, connection, False, others), lines=[chunk])
    elif unpack or not json_lines.is_one_object_a_line(path):
        for chunk in json_lines.chunks(path, scratch, report):
            yield Rows(READ_LINES, {"lines": str(chunk)}, lines=[chunk], quick=QUICK)
    else:
        lines.check_end(path)
        yield Rows(READ_LINES, {"lines": str(path)}, lines=[path], quick=QUICK)


def rows_of_files(
    paths: Sequence[Path], names: Sequence[str], connection: "DuckDBPyConnection", scratch: Path
) -> Iterator[Rows]:
    """Yield the rows of many small dumps, in order, by as few queries as `CHUNK` allows; `names` as in `Rows`."""
    connection.execute(PARENT)
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        size, files = 0, dict[Path, list[str]]()
        coming = small_files.plain_files(paths, names, Path(folder))
        found = next(coming, None)
        while found:
            files[found[0]] = found[1]
            size += found[0].stat().st_size
            found = next(coming, None)
            if size >= json_lines.CHUNK or not found:
                parameters = {"lines": list(map(str, files)), "names": list(files.values())}
                yield Rows(READ_FILES, parameters, lines=list(files))
                for file in files:
                    if file.parent == Path(folder):
                        file.unlink()
                size, files = 0, {}
