r"""Read a delimited text file (CSV, TSV) record by record, one thread, with Python's own parser.

DuckDB's parallel CSV reader takes lines inside quoted texts for records wherever one of its 32 MiB buffers begins, and
one stray carriage return ends its reading. Here a file is read from the first byte to the last, by RFC 4180: one
separator, double quotes, a header (`readers.dialects`). A record that does not fit becomes a row of nulls in its place,
and reading goes on at the next line, so that a quote which is never closed costs one record.

- In files with other separators than commas and semicolons a quote is often a plain character. Where quoting does not
  fit such a file, and its lines do without it, the file is read without quoting.
- Spark and others write a quote inside quotes as `\"`, which is read where it makes records of what are none otherwise.
- Python's csv, pandas and MySQL can write a backslash before every quote, separator, line end and backslash that is
  text. It is read so where backslashes stand before nothing else, no other quote stands inside a cell, and no record is
  lost.
- Databases do not quote at all: they write \N or NULL for what is missing, and a backslash before the letters of
  control signs, before a backslash and often before a line end or tab that is text. It is read so where such a cell
  occurs and no backslash stands before anything else.
- A carriage return inside a line ends a record where all parts of the line are records, and is text where the line as
  a whole is one.

The records go to a Parquet file, which DuckDB then reads as any other. Cost: see `docs/measurements/data-path.md`.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.unfit import in_other_encoding
from adc_pipeline.corpus.readers.dialects import BEHIND_BACKSLASH, Dialect, Record, parse
from adc_pipeline.corpus.readers.headings import Headings
from adc_pipeline.corpus.readers.lines import LINE
from adc_pipeline.corpus.readers.progress import Progress
from adc_pipeline.corpus.readers.text_lines import (
    count_lines,
    lines_beyond_ascii,
    other_encoding,
    text_chunks,
    text_lines,
)

# With any other separator files are common that do not quote at all.
OFTEN_QUOTED = (",", ";")
# Cells that databases write for what is missing, and a backslash with the sign that it makes another one.
MISSING_CELL = re.compile(r"(?:^|\t)(?:\\N|NULL)(?=[\t\r\n]|$)")
BACKSLASH = re.compile(r"\\(.?)", re.DOTALL)
# What else may stand behind a backslash where one stands before each sign that is text: \N is missing, \0 is zero.
BEHIND_GUARD = ("\\", "N", "0")
# What stands for a carriage return that is text while a line is parsed: a code point that no text may hold.
RETURN = "\ufdd0"
# What stands alone behind the last record of a file of DOS, and of a table of PostgreSQL.
ENDS = ("\x1a", "\\.")
# Characters that may be parsed again after quotes that are never closed, before the file is given up.
PARSED_AGAIN = 1 << 30


class Reader:
    """Reads the records behind the header of an open file, and counts what tells whether it is written with quotes.

    `lines` counts the lines that were read, `broken` those that are no record because of a quote, `swallowed` those
    inside quotes of which the first and the last are records by themselves, `needed` the records that are none without
    quoting, or whose cells are all quoted, and `backslashed` those that are no records and hold a quote behind a
    backslash. In a file separated by tabs, `missing` counts cells \\N and NULL, `slashed` the other backslashes that
    databases write, `unslashed` what is left of them. `guards` counts backslashes before quotes, separators and line
    ends as far as `unguarded` is false, which tells of one before anything else.
    """

    def __init__(self, chunks: Iterator[list[str]], dialect: Dialect) -> None:
        self.chunks, self.dialect = behind_header(chunks, dialect), dialect
        bare = replace(dialect, separator=dialect.sign, escaped=False, slashed=False, guarded=False)
        self.is_plain = dialect == bare
        self.width = len(dialect.names)
        self.lines = dialect.before + 1
        self.broken = self.swallowed = self.needed = self.backslashed = self.parsed_again = 0
        self.missing = self.slashed = self.unslashed = self.guards = 0
        self.unguarded = len(dialect.separator) > 1
        csv.field_size_limit(max(csv.field_size_limit(), LINE))

    def batches(self) -> Iterator[list[Record | None]]:
        """Yield the records behind the header, some at a time and in order; None for one that does not fit."""
        lines: list[str] = []
        looks_at_backslashes = self.dialect.separator == "\t" and not self.dialect.slashed
        for chunk in self.chunks:
            if looks_at_backslashes:
                self.note_backslashes(chunk)
            self.note_guards(chunk)
            lines += chunk if self.is_plain else map(self.dialect.prepared, chunk)
            records, read = self.parse(lines, ended=False)
            yield records
            del lines[:read]
        yield self.parse(lines, ended=True)[0]

    def parse(self, lines: list[str], ended: bool) -> tuple[list[Record | None], int]:
        """Return the records in some lines, and how many lines they take; a quoted text may go on behind the lines."""
        records: list[Record | None] = []
        read, total, width = 0, len(lines), self.width
        options = self.dialect.options
        looks_at_quotes = self.dialect.quoting and self.dialect.separator not in OFTEN_QUOTED
        while read < total:
            parser = csv.reader(map(lines.__getitem__, range(read, total)), strict=True, **options)
            start = read
            try:
                for record in parser:
                    end = start + parser.line_num
                    if len(record) == width:
                        # Spreadsheets write rows without a value as separators alone: blank lines.
                        if record[0] or any(record):
                            records.append(record if self.is_plain else self.dialect.restored(record))
                    elif record and lines[read].strip() not in ENDS:
                        records.append(self.before_header(record))
                        self.backslashed += any(self.dialect.escaped_quote in line for line in lines[read:end])
                    if looks_at_quotes and '"' in lines[read]:
                        self.note_quotes(lines[read:end], record)
                    read = end
            except csv.Error:
                if start + parser.line_num == total and not ended and sum(map(len, lines[read:])) <= LINE:
                    break
                self.parsed_again += sum(map(len, lines[read + 1 : start + parser.line_num]))
                records += self.recovered(lines[read], self.lines + read + 1)
                read += 1
        self.lines += read
        return records, read

    def before_header(self, record: Record) -> Record | None:
        """Return what stands before the header of the next table, where tables were joined without a line end."""
        first, *others = self.dialect.names
        *cells, last = record[: self.width]
        joined = len(record) == 2 * self.width - 1 and record[self.width :] == others and last.endswith(first)
        return self.dialect.restored([*cells, last.removesuffix(first).removesuffix("\ufeff")]) if joined else None

    def note_quotes(self, lines: list[str], record: Record) -> None:
        """Count a record whose quotes are in order for or against quoting."""
        separator = self.dialect.sign
        # A text of several lines leaves some of a record's separators to its first line and the others to its last.
        if len(lines) > 1 and lines[0].count(separator) == lines[-1].count(separator) == self.width - 1:
            if all_quoted("".join(lines), separator):
                self.needed += 1
            else:
                self.swallowed += len(lines)
        elif any(separator in cell or "\n" in cell or ('"' in cell and '""' in lines[0]) for cell in record):
            self.needed += 1

    def note_backslashes(self, lines: list[str]) -> None:
        for line in lines:
            if "\\N" in line or "NULL" in line:
                self.missing += len(MISSING_CELL.findall(line))
            if "\\" in line and line.strip() not in ENDS:
                for behind in BACKSLASH.findall(line):
                    if behind in BEHIND_BACKSLASH or behind in ("\\", "\t", "\n"):
                        self.slashed += 1
                    elif behind != "N":
                        self.unslashed += 1

    def note_guards(self, lines: list[str]) -> None:
        # One search in all lines costs a third of one in each.
        if self.unguarded or "\\" not in "".join(lines):
            return
        known = (self.dialect.quote, self.dialect.separator, "\r", "\n")
        for line in lines:
            if self.unguarded:
                return
            if "\\" in line:
                for behind in BACKSLASH.findall(line):
                    self.guards += behind in known
                    self.unguarded = self.unguarded or behind not in (*known, *BEHIND_GUARD)

    def recovered(self, line: str, number: int) -> list[Record | None]:
        """Return what stands in a line that begins a record and is none."""
        if self.parsed_again > PARSED_AGAIN:
            raise PipelineError(
                f"Line {number} of a table that the setting corpus names begins a quoted text that does not end, and it"
                " is not the first: correct its quotes, or write it as Parquet."
            )
        self.broken += '"' in line
        self.backslashed += self.dialect.escaped_quote in line
        line = line.rstrip("\r\n")
        if "\r" in line:
            parts = [self.record(part) for part in line.split("\r") if part]
            if all(parts):
                return [*parts]
            as_text = self.record(line.replace("\r", RETURN))
            if as_text:
                return [[cell.replace(RETURN, "\r") for cell in as_text]]
        return [None]

    def record(self, line: str) -> Record | None:
        record = parse(line, self.dialect)
        return self.dialect.restored(record) if record is not None and len(record) == self.width else None


def all_quoted(text: str, separator: str) -> bool:
    """Return whether every cell of a record is quoted, as a plain quote here and there hardly ever makes them."""
    cell = '"[^"]*(?:""[^"]*)*"'
    return re.fullmatch(f"{cell}(?:{re.escape(separator)}{cell})*\\s*", text) is not None


def is_sound(record: Record) -> bool:
    """Return whether a record is text that UTF-8 can hold."""
    try:
        "".join(record).encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Counted:
    """The records in a Parquet file that `write_records` wrote, and how many of them are rows of nulls.

    `records` is counted apart from them: each line of the file belongs to a record or is left over. `points` says
    whether a cell of the column that was looked at holds a point. `undecoded` counts rows of nulls that are no UTF-8.
    """

    records: int
    malformed: int
    points: bool = False
    undecoded: int = 0


def write_records(
    path: Path, dialect: Dialect, out: Path, report: Report = no_report, looked_at: str | None = None
) -> Counted:
    """Write the records of a delimited file to the Parquet file `out`, all columns as text; return their numbers.

    A record that does not fit the header is null in every column. `looked_at` is the column of `Counted.points`.
    """
    counted, reader = _write(path, dialect, out, report, looked_at)
    if counted.undecoded > 1 and (encoding := other_encoding(lines_beyond_ascii(path))):
        raise in_other_encoding(path.resolve(), encoding)
    # What may have a backslash before it, the dialect in which it has, and how many malformed records speak for that.
    ways: list[tuple[str, Dialect, float]] = []
    if reader.guards and not reader.unguarded and is_guarded(path, dialect):
        ways.append(("signs that are text", replace(dialect, guarded=True), counted.malformed))
    if reader.backslashed:
        ways.append(("quotes", replace(dialect, escaped=True), counted.malformed / 2))
    for signs, way, most in ways:
        beside = out.with_suffix(".again")
        again, _ = _write(path, way, beside, report, looked_at)
        if again.malformed <= most:
            report(f"{path.resolve().name} has a backslash before {signs}: reading it again so")
            beside.replace(out)
            return again
        beside.unlink()
    against = reader.broken + reader.swallowed
    if reader.missing and reader.slashed and not reader.unslashed and reader.needed <= against:
        report(f"{path.resolve().name} has a backslash before signs, as databases write it: reading it again so")
        return _write(path, replace(dialect, quoting=False, slashed=True), out, report, looked_at)[0]
    if dialect.quoting and not dialect.quoted_header and dialect.separator not in OFTEN_QUOTED:
        unquoted = replace(dialect, quoting=False)
        # Lines that are no records for another reason are none in either way.
        others = counted.malformed - reader.broken
        if reader.needed < against and misfits(path, unquoted) - others < against / 2:
            report(f"{path.resolve().name} does not quote: reading it again with quotes as plain characters")
            counted, _ = _write(path, unquoted, out, report, looked_at)
    return counted


def is_guarded(path: Path, dialect: Dialect) -> bool:
    """Return whether a file whose backslashes all stand before signs, as `Reader.guards` counts them, needs them all.

    Then a quote without one encloses a cell, and where some cell is enclosed, separators inside it have none.
    """
    sign = re.escape(dialect.separator)
    enclosing = re.compile(rf"(?:^|{sign}) ?{dialect.quote}|{dialect.quote}(?=\s*(?:{sign}|$))")
    quotes = separators = encloses = False
    with path.open("rb") as file:
        for line in islice(text_lines(file, path), dialect.before + 1, None):
            if "\\" in line:
                found = BACKSLASH.findall(line)
                quotes = quotes or dialect.quote in found
                separators = separators or dialect.separator in found
                line = BACKSLASH.sub("x", line)
            if dialect.quote in line:
                encloses = True
                if dialect.quote in enclosing.sub("", line):
                    return False
            if encloses and separators:
                return False
    return quotes or not encloses


def misfits(path: Path, dialect: Dialect) -> int:
    """Return how many lines from the header on are no record without quoting."""
    width = len(dialect.names)
    with path.open("rb") as file:
        lines = islice(text_lines(file, path), dialect.before, None)
        return sum(dialect.prepared(line).count(dialect.sign) != width - 1 for line in lines if line.strip())


def behind_header(chunks: Iterator[list[str]], dialect: Dialect) -> Iterator[list[str]]:
    skipped = dialect.before + 1
    for chunk in chunks:
        behind = chunk[skipped:]
        skipped -= len(chunk) - len(behind)
        yield behind


def _write(path: Path, dialect: Dialect, out: Path, report: Report, looked_at: str | None) -> tuple[Counted, Reader]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in dialect.names])
    headings, nothing = Headings(path, dialect.names), [None] * len(dialect.names)
    written, malformed, points, undecoded = 0, 0, False, 0
    with path.open("rb") as file, pq.ParquetWriter(out, schema, compression="none", use_dictionary=False) as writer:
        reader, progress = Reader(text_chunks(file, path), dialect), Progress(file, path, report)
        for records in reader.batches():
            records = headings.removed(records)
            headings.refuse_second_table(records)
            if not records:
                continue
            try:
                batch = pa.record_batch([pa.array(cells, pa.string()) for cells in zip(*records, strict=True)], schema)
            except (TypeError, UnicodeEncodeError):
                sound = [record if record and is_sound(record) else nothing for record in records]
                batch = pa.record_batch([pa.array(cells, pa.string()) for cells in zip(*sound, strict=True)], schema)
                malformed += sound.count(nothing)
                undecoded += sound.count(nothing) - records.count(None)
            writer.write_batch(batch)
            if looked_at is not None and not points:
                points = bool(pc.any(pc.match_substring(batch.column(looked_at), ".")).as_py())
            written += len(records)
            progress.update()
    return Counted(written + count_lines(path) - reader.lines, malformed, points, undecoded), reader
