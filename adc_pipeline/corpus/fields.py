"""Open a file in any container as DuckDB relations with one column a field, null where a record has no such field.

The names of fields are values here: they are selected through DuckDB's relational interface and never become part of a
statement.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.readers import inner_replies, json_lines, lines, mended_json, small_files, tables, xml
from adc_pipeline.corpus.readers.arrow import write_parquet
from adc_pipeline.corpus.readers.carried import json_text, place_of
from adc_pipeline.corpus.readers.cells import without_empty
from adc_pipeline.corpus.readers.delimited import write_records
from adc_pipeline.corpus.readers.dialects import read_dialect
from adc_pipeline.corpus.readers.nested import Flatten
from adc_pipeline.corpus.readers.rows import FILE_NUMBER, Rows, columns_of_file
from adc_pipeline.corpus.recognition.file_fields import known_fields
from adc_pipeline.corpus.recognition.formats import Recognised

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation, Expression
    from duckdb.sqltypes import DuckDBPyType

# A key of a record, and those within its objects.
Place = tuple[str, ...]

# Views are kept apart by it, where one connection reads several files.
NUMBERS = count()


@dataclass(frozen=True)
class Piece:
    """A piece of a file as a relation of the wanted fields; how many records it has is known by other means."""

    table: "DuckDBPyRelation"
    records: int | None = None
    # The plain files that are read, and of several the names of each.
    lines: Sequence[Path] = ()
    names: Sequence[list[str]] = ()
    # Whether a cell of `Source.scores` holds a point.
    points: bool = False

    def rows(self, sql: str) -> Rows:
        parameters = {"lines": list(map(str, self.lines)), "names": list(self.names)} if self.names else {}
        return Rows(sql, parameters, records=self.records, lines=() if self.records is not None else self.lines)


@dataclass(frozen=True)
class Source:
    """A file whose fields are read, or several small ones that are read together, in their order.

    These have one layout; as Parquet, Arrow or CSV also the same columns. `names` has their names, as in `Rows`. With
    `repair`, Parquet files are read in which texts are no UTF-8 (these get U+FFFD for what is none), and of JSON lines
    those that are too long for DuckDB are replaced. Raises PipelineError for a file that is damaged or ends in the
    middle.
    """

    paths: Sequence[Path]
    what: Recognised
    connection: "DuckDBPyConnection"
    scratch: Path
    report: Report = no_report
    names: Sequence[str] = ()
    repair: bool = False
    # The column of a CSV file in which points are looked for.
    scores: str | None = None

    @property
    def several(self) -> bool:
        return len(self.paths) > 1

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
        """Yield the records in pieces, in order, as relations with the fields `names`."""
        container, layout = self.what.container, self.what.layout
        with_columns = container in ("parquet", "arrow", "csv")
        read: json_lines.ReadLines | None = xml.json_lines if container == "xml" else None
        if layout and layout.inside and container != "csv":
            read = Flatten(layout, container)
        known = [known_fields(path, container, layout) for path in (self.paths[:1] if with_columns else self.paths)]
        places = {name: place_of(name, set().union(*known)) for name in names}
        with TemporaryDirectory(dir=self.scratch) as folder:
            if with_columns and read is None:
                yield self.of_tables(places, Path(folder))
            elif self.several:
                found = dict(small_files.plain_files(self.paths, self.names, Path(folder), read))
                table = select_keys(list(found), places, self.connection, several=True)
                yield Piece(table, lines=list(found), names=list(found.values()))
            else:
                for chunk in self.plain(read):
                    yield Piece(select_keys([chunk], places, self.connection), lines=[chunk])

    def of_tables(self, places: Mapping[str, Place], folder: Path) -> Piece:
        """Return Parquet, Arrow or CSV files as one piece; copies as Parquet lie in `folder`."""
        container, files, records, points = self.what.container, list[Path](), 0, False
        for number, path in enumerate(self.paths):
            copy = folder / f"{number:06}.parquet"
            if container == "csv":
                counted = write_records(path, read_dialect(path), copy, self.report, self.scores)
                if counted.malformed:
                    self.report(
                        f"{counted.malformed} records of {path.resolve().name} could not be read and are set aside as"
                        " malformed"
                    )
                points = points or counted.points
            # Some layouts read their rows twice, which a stream of Arrow's batches does not allow.
            elif container == "arrow" or self.repair:
                write_parquet(path, copy, container)
            else:
                copy = path
            files.append(copy)
            records += counted.records if container == "csv" else row_count([str(copy)])
        table = self.connection.read_parquet(list(map(str, files)), filename=self.several, hive_partitioning=False)
        table = without_empty(table, read_dialect(self.paths[0]).separator) if container == "csv" else table
        table = select_columns(table, places, ["filename"] if self.several else [])
        return Piece(table, records, files, [[name] for name in self.names] if self.several else (), points)

    def plain(self, read: json_lines.ReadLines | None) -> Iterator[Path]:
        """Yield plain files of JSON lines that hold the records of the only file, each there until the next."""
        (path,) = self.paths
        # DuckDB refuses a whole file for a line that it finds too long.
        if read is None and not self.repair and json_lines.is_one_object_a_line(path) and is_sound(path):
            lines.check_end(path)
            yield path
            return

        def whole(file: BinaryIO, path: Path) -> Iterator[bytes]:
            return map(mended_json.mended, (read or json_lines.json_lines)(file, path))

        yield from json_lines.chunks(path, self.scratch, self.report, whole)


def is_sound(path: Path) -> bool:
    """Return whether no line of a plain file of JSON lines is one that `mended_json.mended` mends."""
    with path.open("rb") as file:
        return all(map(mended_json.is_sound, lines.whole_lines(file, path)))


def column_names(table: "DuckDBPyRelation") -> list[str]:
    """Return the columns of a relation, and the members of those that are structures as `column.member`."""

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

    known, null = column_names(table), ConstantExpression(None).cast("VARCHAR")
    there = {name: ".".join(place) for name, place in places.items()}
    fields = (field(there[name], known) if there[name] in known else null for name in places)
    chosen = (field.alias(name) for name, field in zip(places, fields, strict=True))
    table = inner_replies.refuse_inner_texts(table, [place[0] for place in places.values()])
    return table.select(*chosen, *map(ColumnExpression, others))
