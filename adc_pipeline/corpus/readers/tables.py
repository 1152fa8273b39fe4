"""The columns of a table with one row an utterance as ours; the setting `columns` maps their names.

A row that cannot be read is not dropped: it is null in every column, so that the stage counts it as malformed.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.corpus.opening.first_bytes import is_parquet
from adc_pipeline.corpus.readers.arrow import read_schema, schema_names
from adc_pipeline.corpus.readers.carried import MAPPED, NEEDED, carried, spelled
from adc_pipeline.corpus.readers.dialects import read_dialect
from adc_pipeline.corpus.readers.rows import COLUMNS, NAME_OF_FILE, as_columns, columns_of_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression

IDS = ("id", "conversation_id", "reply_to")
# Their values only tell one from another, so that they may be bytes, such as those of UUIDs.
NAMES = (*IDS, "speaker")
# Names that stand for a column of ours where the setting `columns` says nothing.
ALSO_CALLED = {"recorded_at": ("retrieved_on", "retrieved_utc")}

# What several of our columns need is a column of its own: DuckDB plans a macro anew wherever it stands, which took two
# thirds of the time of reading a small table.
SHARED = {
    **dict.fromkeys(IDS, "{as_id}"),
    "timestamp": "seconds({text})",
    "recorded_at": "seconds({text})",
}
# A column of ours out of its text, where it is not the text itself. An id without t1_ or t3_ is that of a dump.
FINISHED = {
    "id": "CASE WHEN NOT is_no_id({text}) THEN without_kind({id}) END",
    # What names neither its conversation nor a parent is a root, of the conversation that it names.
    "conversation_id": "CASE WHEN NOT is_no_id({text}) THEN without_kind({id})"
    " WHEN is_nothing({parent_kind}) THEN CASE WHEN NOT is_no_id({kind}) THEN without_kind({own}) END END",
    "reply_to": "CASE WHEN NOT is_nothing({text}) OR ({text} = {conversation} AND NOT is_no_id({conversation}))"
    " THEN without_kind(coalesce({id}, {text})) END",
    "timestamp": "{seconds}",
    "score": "score_number({text})",
    "stickied": "truth({text})",
    "score_hidden": "truth({text})",
    "distinguished": "mark({text})",
    "recorded_at": "recorded({seconds}, {recorded}, NULL)",
    "kind": "kind_of({kind})",
    "parent_kind": "kind_of({parent_kind})",
    "time_unreadable": "is_unreadable({seconds}, {timestamp})",
}
WHERE_SOUND = "CASE WHEN {sound} THEN {value} END"
READ = "SELECT {finished} FROM (SELECT *, {shared} FROM {view})"
BY_POINTS = "SELECT thousands_by_points(score) FROM {view}"

# Keeps views apart where one connection reads several tables.
NUMBERS = count()


def wanted(columns: Mapping[str, str]) -> list[str]:
    """Return the file's names of the columns of an utterance."""
    return [*(columns.get(name, name) for name in MAPPED), *(name for names in ALSO_CALLED.values() for name in names)]


def check_columns(path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has.

    Raises PipelineError if the table lacks a column that is needed, or one that `columns` names.
    """
    names = schema_names(read_schema(path, "parquet")) if is_parquet(path) else read_dialect(path).names
    return mapped(path, names, columns)


def first_filled(names: Sequence[str]) -> "Expression":
    """Return the value of the only or, as text, of the first of some columns that has one."""
    from duckdb import CoalesceOperator, ColumnExpression

    columns = [ColumnExpression(name) for name in names]
    return columns[0] if len(columns) == 1 else CoalesceOperator(*(each.cast("VARCHAR") for each in columns))


def of_texts(table: "DuckDBPyRelation") -> "DuckDBPyRelation":
    """Return a table with the columns that are bytes as text; `readers.values` has to have been created."""
    from duckdb import ColumnExpression, FunctionExpression

    columns = dict(zip(table.columns, table.types, strict=True))
    if "BLOB" not in map(str, columns.values()):
        return table
    return table.select(
        *(
            FunctionExpression("text_of_bytes", ColumnExpression(name)).alias(name)
            if kind == "BLOB"
            else ColumnExpression(name)
            for name, kind in columns.items()
        )
    )


def mapped(path: Path, has: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has; names are in any case."""
    names = {name: columns.get(name, name) for name in MAPPED} | carried(columns)
    names = {ours: spelled(theirs, has) for ours, theirs in names.items()}
    for name, others in ALSO_CALLED.items():
        if names[name] not in has and name not in columns:
            names[name] = next((found for other in others if (found := spelled(other, has)) in has), name)
    missing = [theirs for ours, theirs in names.items() if theirs not in has and (ours in NEEDED or ours in columns)]
    if missing:
        wanted = ", ".join(f"{name}{did_you_mean(name, has)}" for name in missing)
        raise PipelineError(
            f"{path.resolve()} has no column {wanted} but {', '.join(has)}: map them by the setting"
            " columns, such as {text: body}."
        )
    return {ours: theirs for ours, theirs in names.items() if theirs in has}


def select(
    table: "DuckDBPyRelation",
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    several: bool = False,
    points: bool = False,
) -> str:
    """Return the query of our columns over a table that has those of `wanted`; its view stays with the connection.

    With `several`, the table is that of several files, whose paths its column `filename` has; with `points`, its
    scores are texts of which some hold points, and are read once before, to find out what these mean.
    """
    from duckdb import ColumnExpression

    called = {name: [columns.get(name, name)] for name in MAPPED}
    for name, also in ALSO_CALLED.items():
        called[name] += also if name not in columns else ()
    others = carried(columns)
    chosen = [first_filled(names).alias(name) for name, names in called.items()]
    chosen += [ColumnExpression(theirs).alias(name) for name, theirs in others.items()]
    table = table.select(*chosen, *(columns_of_file(table) if several else []))
    view = f"table_{next(NUMBERS)}"
    table.create_view(view)
    types = list(map(str, table.types))
    by_points = points and connection.execute(BY_POINTS.format(view=view)).fetchall() == [(True,)]
    shared, found = values(dict(zip(MAPPED, types, strict=False)), by_points)
    for name, kind in zip(others, types[len(MAPPED) :], strict=False):
        found[f'"{name}"'] = as_text(f'"{name}"', kind)
    if several:
        found["source"] = f"coalesce({found['source']}, {NAME_OF_FILE})"
    return READ.format(finished=as_columns(found), shared=as_columns(shared), view=view)


def values(types: Mapping[str, str], by_points: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the expressions of `SHARED` over columns that have our names and these DuckDB types, and of `COLUMNS`.

    The latter are over these columns and the former, whose names are not ours. `by_points` says that points part the
    thousands of scores.
    """
    texts = {name: as_text(name, kind) for name, kind in types.items()}
    texts |= {name: f"text_of_bytes({name})" for name in NAMES if types.get(name) == "BLOB"}
    if by_points:
        texts["score"] = f"replace({texts['score']}, '.', '')"
    shared = {
        shared_name(name): value.format(text=texts[name], as_id=as_id(texts[name], types[name]))
        for name, value in SHARED.items()
    }
    # A text that is no UTF-8 spoils its row.
    undecoded = [f"({name} IS NULL OR {texts[name]} IS NOT NULL)" for name, kind in types.items() if kind == "BLOB"]
    found = {}
    for name in COLUMNS:
        value = FINISHED.get(name, "{text}").format(
            text=texts.get(name),
            id=shared_name(name),
            own=shared_name("id"),
            seconds=shared_name("timestamp"),
            recorded=shared_name("recorded_at"),
            timestamp=texts["timestamp"],
            conversation=texts["conversation_id"],
            kind=texts["id"],
            parent_kind=texts["reply_to"],
        )
        value = WHERE_SOUND.format(sound=" AND ".join(undecoded), value=value) if undecoded else value
        found[name] = f"CAST({value} AS {COLUMNS[name]})"
    return shared, found


def shared_name(name: str) -> str:
    """Return the name of a column of `SHARED`, which no column of a file has."""
    return f'"adc: {name}"'


def as_text(name: str, kind: str) -> str:
    """Return a column as text. A list of texts is its pieces, one a line; other nested values are JSON."""
    if kind == "BLOB":
        return f"TRY(decode({name}))"
    if kind.startswith(("TIMESTAMP", "DATE")):
        # Beyond the year 5138, a number of seconds would be taken for milliseconds.
        number = f"TRY(CAST(floor(epoch({name})) AS BIGINT))"
        return (
            f"CAST(CASE WHEN abs({number}) <= 99999999999 THEN {number}::VARCHAR ELSE {name}::VARCHAR END AS VARCHAR)"
        )
    if kind.startswith("VARCHAR["):
        return f"array_to_string({name}, chr(10))" if kind.count("[") == 1 else f"CAST(to_json({name}) AS VARCHAR)"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({name}) AS VARCHAR)"
    return f"CAST({name} AS VARCHAR)"


def as_id(text: str, kind: str) -> str:
    return f"{id_macro(kind)}({text})"


def id_macro(kind: str) -> str:
    """Return the macro that reads an id of a column of this DuckDB type."""
    if kind.startswith("FLOAT"):
        return "short_number_id"
    return "number_id" if kind.startswith(("DOUBLE", "DECIMAL")) else "text_id"
