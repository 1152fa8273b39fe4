"""Read a table with one row an utterance, as Parquet or CSV; the setting `columns` maps its column names.

DuckDB reads Parquet in place. A CSV file is first read record by record (`readers.delimited`). A row that cannot be
read is not dropped: it is null in every column, so that the stage counts it as malformed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.corpus.opening.first_bytes import is_parquet
from adc_pipeline.corpus.readers.arrow import read_schema
from adc_pipeline.corpus.readers.carried import MAPPED, carried, place_of, spelled
from adc_pipeline.corpus.readers.cells import without_empty
from adc_pipeline.corpus.readers.delimited import Counted, write_records
from adc_pipeline.corpus.readers.dialects import read_dialect
from adc_pipeline.corpus.readers.inner_replies import refuse_inner_texts
from adc_pipeline.corpus.readers.rows import COLUMNS, NAME_OF_FILE, Rows, as_columns, columns_of_file

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression
    from duckdb.sqltypes import DuckDBPyType

NEEDED = ("id", "conversation_id", "reply_to", "text", "score")
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


def rows(
    path: Path,
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
    repair: bool = False,
) -> Iterator[Rows]:
    """Yield the rows of one table, in order; run them to their end before this generator goes on.

    `columns` maps our names to the file's. `scratch` takes the records of a CSV file. With `repair`, text of a Parquet
    file that is no UTF-8 makes its row malformed; DuckDB cannot read the file otherwise. Raise PipelineError for a
    file that is damaged, and for columns that it lacks.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        points = False
        if not is_parquet(path):
            table, counted = open_csv(path, Path(folder), connection, report, columns)
            records, points, repair = counted.records, counted.points, False
        else:
            table = without_validation(path, Path(folder), connection) if repair else open_parquet(path, connection)
            records = parquet_records(path)
        query = select(path, table, columns, connection, points=points, texts_as_bytes=repair)
        yield Rows(query, records=records)


def rows_of_files(
    paths: Sequence[Path],
    names: Sequence[str],
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    scratch: Path,
) -> Iterator[Rows]:
    """Yield the rows of many small tables of one schema, in order, by one query; `names` as in `Rows`."""
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        points = False
        if is_parquet(paths[0]):
            files, records = list(paths), sum(map(parquet_records, paths))
            table = open_parquets(files, connection)
        else:
            files = [Path(folder) / f"{number:06}.parquet" for number in range(len(paths))]
            score = score_column(paths[0], read_dialect(paths[0]).names, columns)
            counted = [
                write_records(path, read_dialect(path), file, looked_at=score)
                for path, file in zip(paths, files, strict=True)
            ]
            records, points = sum(each.records for each in counted), any(each.points for each in counted)
            table = open_parquets(files, connection)
            table = without_empty(table, read_dialect(paths[0]).separator)
        parameters = {"lines": list(map(str, files)), "names": [[name] for name in names]}
        query = select(paths[0], table, columns, connection, several=True, points=points)
        yield Rows(query, parameters, records=records)


def check_columns(path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has.

    Raises PipelineError if the table lacks a column that is needed, or one that `columns` names.
    """
    names = schema_names(read_schema(path, "parquet")) if is_parquet(path) else read_dialect(path).names
    return mapped(path, names, columns)


def schema_names(schema: "pa.Schema") -> list[str]:
    """Return the columns of a schema, and the members of those that are structures as `column.member`."""
    import pyarrow as pa

    def inner(name: str, kind: "pa.DataType") -> Iterator[str]:
        for each in kind if pa.types.is_struct(kind) else ():
            yield f"{name}.{each.name}"
            yield from inner(f"{name}.{each.name}", each.type)

    return [*schema.names, *(name for field in schema for name in inner(field.name, field.type))]


def column_names(table: "DuckDBPyRelation") -> list[str]:
    """Return what `schema_names` does for a relation."""

    def inner(name: str, kind: "DuckDBPyType") -> Iterator[str]:
        members: Any = kind.children if kind.id == "struct" else ()
        for member, of_member in members:
            yield f"{name}.{member}"
            yield from inner(f"{name}.{member}", of_member)

    columns = zip(table.columns, table.types, strict=True)
    return [*table.columns, *(each for name, kind in columns for each in inner(name, kind))]


def field(name: str, known: Collection[str]) -> "Expression":
    """Return a column of a table, or the member of one that is a structure; `known` are its `column_names`."""
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    outer, *inner = place_of(name, known)
    found: Expression = ColumnExpression(outer)
    for each in inner:
        found = FunctionExpression("struct_extract", found, ConstantExpression(each))
    return found


def first_filled(names: Sequence[str], known: Collection[str]) -> "Expression":
    """Return the value of the only or, as text, of the first of some fields that has one; `known` as in `field`."""
    from duckdb import CoalesceOperator

    fields = [field(name, known) for name in names]
    return fields[0] if len(fields) == 1 else CoalesceOperator(*(each.cast("VARCHAR") for each in fields))


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


def open_parquet(path: Path, connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    import duckdb

    try:
        return connection.read_parquet(str(path), hive_partitioning=False)
    except duckdb.Error as error:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, is no whole Parquet file: fetch it again."
        ) from error


def open_parquets(paths: Sequence[Path], connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    """Return Parquet files of one schema, with the path of each row's file as `filename`."""
    return connection.read_parquet(list(map(str, paths)), filename=True, hive_partitioning=False)


def parquet_records(path: Path) -> int:
    """Return the number of rows that a Parquet file declares."""
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        return int(pq.read_metadata(file).num_rows)


def without_validation(path: Path, folder: Path, connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    """Return a Parquet file with its texts as bytes, since DuckDB reads no file with a text that is no UTF-8."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bytes_of = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    copy = folder / "bytes.parquet"
    with path.open("rb") as source:
        file = pq.ParquetFile(source)
        fields = [pa.field(field.name, bytes_of.get(field.type, field.type)) for field in file.schema_arrow]
        schema = pa.schema(fields)
        with pq.ParquetWriter(copy, schema, compression="none") as writer:
            for batch in file.iter_batches():
                arrays = [array.view(bytes_of.get(array.type, array.type)) for array in batch.columns]
                writer.write_batch(pa.record_batch(arrays, schema))
    return connection.read_parquet(str(copy), hive_partitioning=False, binary_as_string=False)


def open_csv(
    path: Path,
    folder: Path,
    connection: "DuckDBPyConnection",
    report: Report = no_report,
    columns: Mapping[str, str] | None = None,
) -> "tuple[DuckDBPyRelation, Counted]":
    """Return the records of a CSV file as columns of text, where an empty cell is null, and how many there are.

    They lie in `folder`, which has to stay until the relation has been read. With `columns`, as in `rows`, the points
    of scores are looked for.
    """
    records, dialect = folder / "records.parquet", read_dialect(path)
    score = None if columns is None else score_column(path, dialect.names, columns)
    counted = write_records(path, dialect, records, report, score)
    if counted.malformed:
        report(f"{counted.malformed} records of {path.resolve().name} could not be read and are set aside as malformed")
    table = connection.read_parquet(str(records), hive_partitioning=False)
    return without_empty(table, dialect.separator), counted


def score_column(path: Path, has: list[str], columns: Mapping[str, str]) -> str:
    """Return the file's name of the column of scores; PipelineError as in `check_columns`."""
    return mapped(path, has, columns)["score"]


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
    path: Path,
    table: "DuckDBPyRelation",
    columns: Mapping[str, str],
    connection: "DuckDBPyConnection",
    several: bool = False,
    points: bool = False,
    texts_as_bytes: bool = False,
) -> str:
    """Return the query of our columns over a table; its view stays for the life of the connection.

    With `several`, the table is that of several files, whose paths its column `filename` has; with `points`, its
    scores are texts of which some hold points, and are read once before, to find out what these mean; with
    `texts_as_bytes`, its texts may be no UTF-8.
    """
    from duckdb import ConstantExpression

    has = column_names(table)
    names = mapped(path, has, columns)
    called = {name: [names[name]] if name in names else [] for name in MAPPED}
    for name, also in ALSO_CALLED.items():
        if name not in columns:
            # A reader may give a column that is null throughout.
            called[name] = [each for other in (name, *also) if (each := spelled(other, has)) in has]
    null = ConstantExpression(None).cast("VARCHAR")
    chosen = [(first_filled(each, has) if each else null).alias(name) for name, each in called.items()]
    others = carried(columns)
    chosen += [field(names[name], has).alias(name) for name in others]
    table = refuse_inner_texts(table, list(names.values()))
    table = table.select(*chosen, *(columns_of_file(table) if several else []))
    view = f"table_{next(NUMBERS)}"
    table.create_view(view)
    types = list(map(str, table.types))
    by_points = points and connection.execute(BY_POINTS.format(view=view)).fetchall() == [(True,)]
    shared, found = values(dict(zip(MAPPED, types, strict=False)), by_points, texts_as_bytes)
    for name, kind in zip(others, types[len(MAPPED) :], strict=False):
        found[f'"{name}"'] = as_text(f'"{name}"', kind)
    if several:
        found["source"] = f"coalesce({found['source']}, {NAME_OF_FILE})"
    return READ.format(finished=as_columns(found), shared=as_columns(shared), view=view)


def values(types: Mapping[str, str], by_points: bool, texts_as_bytes: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the expressions of `SHARED` over columns that have our names and these DuckDB types, and of `COLUMNS`.

    The latter are over these columns and the former, whose names are not ours. `by_points` says that points part the
    thousands of scores.
    """
    texts = {name: as_text(name, kind) for name, kind in types.items()}
    if not texts_as_bytes:
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
