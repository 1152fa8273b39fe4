"""A table with one row an utterance, as Parquet or CSV, read by DuckDB; the setting `columns` maps its names.

A CSV file is read strictly, by RFC 4180: one delimiter, double quotes, a header. DuckDB's guessing is left
out, since a few broken rows can talk it into another dialect. A row that does not fit is not dropped: a row
of nulls for each of its lines comes at the end, so that the stage counts them as malformed.
"""

import csv
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.corpus import formats
from adc_pipeline.corpus.packings import blocks, packing
from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.readers.rows import COLUMNS, Rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

NEEDED = ("id", "conversation_id", "reply_to", "text", "score")
# A row of a CSV file may be this long; DuckDB wants its buffers larger than that.
ROW, BUFFER = lines.LINE, 2 * lines.LINE

SPELT = {"BLOB": "TRY(decode({name}))"}
# What pandas makes of whole numbers where one is missing: 7 becomes 7.0, which is no id.
SPELT_ID = SPELT | dict.fromkeys(("FLOAT", "DOUBLE"), "CAST(try_cast({name} AS BIGINT) AS VARCHAR)")
IDS = ("id", "conversation_id", "reply_to")

FINISHED = {
    **dict.fromkeys(IDS, "nullif({spelt}, '')"),
    "timestamp": "coalesce(seconds({spelt}), TRY(CAST(floor(epoch(try_cast({spelt} AS TIMESTAMP))) AS BIGINT)))",
    "score": "whole({spelt})",
    "stickied": "try_cast({spelt} AS BOOLEAN)",
    "score_hidden": "try_cast({spelt} AS BOOLEAN)",
}
READ = "SELECT {finished} FROM {view}"
REJECTED = "SELECT count(DISTINCT line) FROM {rejects}"
# One rejected row may be thousands: a quote that is never closed swallows what stands behind it.
LINES_IN_ROWS = """
SELECT count(*) + coalesce(sum(length(content) - length(replace(content, chr(10), ''))), 0)::BIGINT
FROM (SELECT concat(*COLUMNS(*)) AS content FROM {view})
"""
NULLS = f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in COLUMNS.items())} FROM range($rejected)"  # noqa: S608

# Views and tables of rejects are kept apart by it, where one connection reads several tables.
NUMBERS = count()


def rows(
    path: Path, columns: Mapping[str, str], connection: "DuckDBPyConnection", report: Report = no_report
) -> Iterator[Rows]:
    """The rows of one table in its order, and at the end one of nulls for each line that did not fit.

    `columns` maps our names to the file's, where they differ. Run each to its end before asking for the
    next: only then is known how many rows were rejected. Raises PipelineError for columns that are not there.
    """
    from duckdb import ColumnExpression, ConstantExpression

    number = next(NUMBERS)
    view, everything, rejects = f"table_{number}", f"everything_{number}", f"rejects_{number}"
    parquet = formats.is_parquet(path)
    table = open_parquet(path, connection) if parquet else open_csv(path, connection, rejects)
    table.create_view(everything)
    names = mapped(path, table.columns, columns)
    selected = [
        ColumnExpression(names[name]) if name in names else ConstantExpression(None).cast("VARCHAR") for name in COLUMNS
    ]
    table = table.select(*(column.alias(name) for column, name in zip(selected, COLUMNS, strict=True)))
    table.create_view(view)
    finished = ", ".join(
        f"{expression(name, str(kind))} AS {name}" for name, kind in zip(COLUMNS, table.types, strict=True)
    )
    yield Rows(READ.format(finished=finished, view=view))
    if not parquet:
        ((rejected,),) = connection.execute(REJECTED.format(rejects=rejects)).fetchall()
        if rejected:
            ((accounted,),) = connection.execute(LINES_IN_ROWS.format(view=everything)).fetchall()
            rejected = max(rejected, lines_in(path) - 1 - accounted)
            report(f"{rejected} lines of {path.resolve().name} could not be read and are set aside as malformed")
            yield Rows(NULLS, {"rejected": rejected})


def check_columns(path: Path, columns: Mapping[str, str]) -> None:
    """Raise PipelineError if the table lacks a column that is needed, or one that `columns` names."""
    import duckdb

    with duckdb.connect() as connection:
        names = open_parquet(path, connection).columns if formats.is_parquet(path) else list(header(path)[0])
        mapped(path, names, columns)


def open_parquet(path: Path, connection: "DuckDBPyConnection") -> "DuckDBPyRelation":
    import duckdb

    try:
        return connection.read_parquet(str(path))
    except duckdb.Error as error:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, is no whole Parquet file ({first_line(error)}): fetch"
            " it again."
        ) from error


def open_csv(path: Path, connection: "DuckDBPyConnection", rejects: str) -> "DuckDBPyRelation":
    names, separator = header(path)
    packed = packing(path)
    if packed not in ("zstd", "gzip", "none"):
        raise PipelineError(f"{path.resolve()} is a table packed by {packed}, which is not read: unpack it first.")
    return connection.read_csv(
        str(path),
        header=True,
        delimiter=separator,
        quotechar='"',
        escapechar='"',
        auto_detect=False,
        strict_mode=True,
        columns=names,
        compression=packed,
        store_rejects=True,
        rejects_table=rejects,
        rejects_scan=f"{rejects}_scan",
        max_line_size=ROW,
        buffer_size=BUFFER,
    )


def lines_in(path: Path) -> int:
    number, last = 0, b"\n"
    with path.open("rb") as file:
        for block in blocks(file, path):
            number, last = number + block.count(b"\n"), block[-1:] or last
    return number + (last != b"\n")


def header(path: Path) -> tuple[dict[str, str], str]:
    """The columns of a CSV file, in order, with DuckDB's type of each, and what separates them."""
    first = next(iter(formats.first_lines(path)), b"")
    separator = formats.delimiter(first)
    if separator is None:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, has no header of a CSV file in UTF-8: give it one, or"
            " correct the setting format."
        )
    cells = next(csv.reader([first.decode("utf-8-sig").rstrip("\r")], delimiter=separator), [])
    names = [cell or f"column{number}" for number, cell in enumerate(cells)]
    # DuckDB's names are the same in either case.
    if len({name.lower() for name in names}) < len(names):
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, has two columns of one name ({', '.join(names)}):"
            " rename one."
        )
    return dict.fromkeys(names, "VARCHAR"), separator


def mapped(path: Path, has: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The file's name of each of our columns that it has."""
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise PipelineError(
            f"The setting columns maps {', '.join(unknown)}, which no utterance has: its keys are {', '.join(COLUMNS)}."
        )
    names = {name: columns.get(name, name) for name in COLUMNS}
    missing = [theirs for ours, theirs in names.items() if theirs not in has and (ours in NEEDED or ours in columns)]
    if missing:
        raise PipelineError(
            f"{path.resolve()} has no column {', '.join(missing)} but {', '.join(has)}: map them by the setting"
            " columns, such as {text: body}."
        )
    return {ours: theirs for ours, theirs in names.items() if theirs in has}


def expression(name: str, kind: str) -> str:
    """One of `COLUMNS` out of a column of the DuckDB type `kind` that has its name already."""
    if name == "timestamp" and kind.startswith(("TIMESTAMP", "DATE")):
        return "TRY(CAST(floor(epoch(timestamp)) AS BIGINT))"
    spelt = (SPELT_ID if name in IDS else SPELT).get(kind, "CAST({name} AS VARCHAR)").format(name=name)
    return FINISHED.get(name, "{spelt}").format(spelt=spelt)
