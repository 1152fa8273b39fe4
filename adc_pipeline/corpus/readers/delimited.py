r"""Read a delimited text file (CSV, TSV) record by record, one thread, with Python's own parser.

DuckDB's parallel CSV reader takes lines inside quoted texts for records wherever one of its 32 MiB buffers begins, and
one stray carriage return ends its reading. Here a file is read from the first byte to the last, by RFC 4180: one
separator, double quotes, a header. A record that does not fit becomes a row of nulls in its place, and reading goes
on at the next line, so that a quote which is never closed costs one record.

- The usual separators are the comma, semicolon, tab and bar. Any other sign is one where it separates five names or
  more in the header, such as ^, : and the control characters of Hive.
- Lines that begin with `#` before the header are remarks. One of them is the header where it has the cells of a record.
- Where the cells of the header are in apostrophes, these quote.
- In files with other separators than commas and semicolons a quote is often a plain character. Where quoting does not
  fit such a file, and its lines do without it, the file is read without quoting.
- Spark and others write a quote inside quotes as `\"`, which is read where it makes records of what are none otherwise.
- A carriage return inside a line ends a record where all parts of the line are records, and is text where the line as
  a whole is one.

The records go to a Parquet file, which DuckDB then reads as any other. Cost: see `docs/data-path.md`.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

from adc_pipeline.core.engine import SECONDS_BETWEEN_REPORTS, Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.packings import BLOCK, blocks
from adc_pipeline.corpus.readers.lines import LINE

SEPARATORS = (",", "\t", ";", "|")
# With any other separator files are common that do not quote at all.
OFTEN_QUOTED = (",", ";")
# Signs that stand in the names of columns, or around them, and separators that an unusual one needs in the header.
IN_NAMES = "_-. \"'()[]{}#/"
LEAST_SEPARATORS = 4
REMARK = "#"
IN_APOSTROPHES = re.compile(r"\s*'[^']*'\s*")
# A line between the header and the records of a table that was drawn for people.
RULE = re.compile(r"[\s|+:=-]*---[\s|+:=-]*")
# Excel's first line, which names the separator, before the header.
NAMED_SEPARATOR = re.compile(r'"?sep=([^\w"\'\r\n])"?\s*')
# A line beyond this length is no record. As text it has a quote that fits nowhere, so that the parser rejects it.
TOO_LONG = '"too long"\0\n'
# What stands for a carriage return that is text while a line is parsed: a code point that no text may hold.
RETURN = "\ufdd0"
# Lines behind the header that tell whether each ends with a separator.
LINES_LOOKED_AT = 20
# Lines among which the header is looked for.
HEADER_WITHIN = 100
# Bytes that are parsed and written at a time: more objects at once only give the garbage collector more to do.
STEP = 1 << 20
# Characters that may be parsed again after quotes that are never closed, before the file is given up.
PARSED_AGAIN = 1 << 30
# What may stand around the first name of a header in the middle of a file: nothing, a byte order mark, a space.
AROUND_NAMES = (("", ""), ("\ufeff", ""), (" ", ""), ("", " "))

Record = list[str]


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    `names` are the columns of its header, behind `before` lines of another kind. `quoting` says whether quotes mean
    anything, `quote` which sign they are, `quoted_header` whether the header has some, `escaped` whether a backslash
    stands before quotes inside quotes, and `spaced` whether a space follows each separator.
    """

    names: list[str]
    separator: str
    quoting: bool = True
    quote: str = '"'
    before: int = 0
    quoted_header: bool = False
    escaped: bool = False
    spaced: bool = False

    @property
    def options(self) -> dict[str, Any]:
        quoting = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        return {
            "delimiter": self.separator,
            "quoting": quoting,
            "quotechar": self.quote,
            "skipinitialspace": self.spaced,
        }

    @property
    def escaped_quote(self) -> str:
        return "\\" + self.quote

    def doubled(self, line: str) -> str:
        """Return a line with each quote doubled that a backslash escapes, which is not escaped itself."""
        return re.sub(rf"(?<!\\)((?:\\\\)*)\\{self.quote}", rf"\1{self.quote * 2}", line)


def read_dialect(path: Path) -> Dialect:
    """Return the dialect that the header of a file tells; raise PipelineError for a file without a header."""
    with path.open("rb") as file:
        first = list(islice(text_lines(file, path), HEADER_WITHIN))
    before, header, separator = find_header(first)
    following = [line for line in first[before + 1 :] if line.strip()][:LINES_LOOKED_AT]
    written = Dialect([], separator or ",", before=before, quoted_header='"' in header)
    written = replace(written, spaced=header.count(written.separator) == header.count(f"{written.separator} ") > 0)
    if all(IN_APOSTROPHES.fullmatch(cell) for cell in header.split(written.separator)):
        written = replace(written, quote="'", quoted_header=True)
    cells = parse(header, written) if separator and "\0" not in header else None
    if not cells:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, has no header of a CSV file in UTF-8: give it one, or"
            " correct the setting format."
        )
    if following and RULE.fullmatch(following[0]):
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, is a table drawn for people, with a rule below its"
            " header: write it as CSV."
        )
    cells = fitted(cells, following, written)
    # Bytes that are no UTF-8 cannot be part of a column's name.
    names = [
        cell.strip().encode(errors="surrogateescape").decode(errors="backslashreplace") or f"column{number}"
        for number, cell in enumerate(cells)
    ]
    # DuckDB does not tell upper case from lower case.
    if len({name.lower() for name in names}) < len(names):
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, has two columns of one name ({', '.join(names)}):"
            " rename one."
        )
    return replace(written, names=names)


def find_header(lines: Sequence[str]) -> tuple[int, str, str | None]:
    """Return the place of the header among the first lines of a file, the header, and what separates its cells if any.

    Before it there may be empty lines, one that names the separator, and remarks. The last remark is the header where
    it has the cells of the first record.
    """
    filled = [place for place, line in enumerate(lines) if line.strip()]
    named = NAMED_SEPARATOR.fullmatch(lines[filled[0]]) if filled else None
    filled = filled[1:] if named else filled
    if not filled:
        return 0, "", None
    remarks = list(takewhile(lambda place: lines[place].lstrip().startswith(REMARK), filled))
    others = filled[len(remarks) :]
    place = (others or filled)[0]
    header = lines[place]
    if remarks:
        remark = lines[remarks[-1]].lstrip().removeprefix(REMARK).lstrip(" ")
        separator = named[1] if named else separator_of(remark)
        if separator and is_header(remark, header if others else "", separator):
            place, header = remarks[-1], remark
    separator = named[1] if named else separator_of(header)
    return place, header, separator if separator and separator in header else None


def is_header(remark: str, line: str, separator: str) -> bool:
    """Return whether a remark has the cells of the line behind it, which may begin a record of several lines."""
    width, record = remark.count(separator) + 1, parse(line, Dialect([], separator))
    if record:
        return width == len(record) > 1
    return width > LEAST_SEPARATORS or width == line.count(separator) + 1 > 1


def fitted(cells: list[str], lines: list[str], dialect: Dialect) -> list[str]:
    """Return the cells of a header as the lines behind it have them; one that the header does not name is empty.

    Each of these may end with separators that the header has not, or the other way round; and R begins them with the
    number of the row. Where only some have more cells, a text may hold separators, so these fit nowhere.
    """
    try:
        records = [record for record in csv.reader(lines, **dialect.options) if record]
    except csv.Error:
        return cells
    if len(lines) == LINES_LOOKED_AT:
        # The last one may go on.
        del records[-1]
    widths = {len(record) for record in records}
    if len(widths) != 1:
        return cells
    (width,) = widths
    if width < len(cells) and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    if not any(cell for record in records for cell in record[len(cells) :]):
        return cells + [""] * (width - len(cells))
    numbered = [record[0] for record in records] == [str(number + 1) for number in range(len(records))]
    if width == len(cells) + 1 and numbered and dialect.quoted_header and lines[0].startswith(dialect.quote):
        return ["", *cells]
    return cells


def separator_of(header: str) -> str | None:
    """Return what separates the cells of a header; None if nothing does."""
    # Of a file whose lines end with \r, all is the first line. A column's name may hold commas, but no tab.
    header = header.strip(" \n\r").partition("\r")[0]
    if "\0" in header:
        return None
    most = "\t" if "\t" in header else max(SEPARATORS, key=header.count)
    if header.count(most) >= LEAST_SEPARATORS:
        return most
    others = sorted({sign for sign in header if not (sign.isalnum() or sign in IN_NAMES or sign in SEPARATORS)})
    other = max(others, key=header.count, default="")
    cells = [cell.strip() for cell in header.split(other)] if other else []
    if len(cells) > LEAST_SEPARATORS and all(cells) and len(set(cells)) == len(cells):
        return other
    return most if most in header else None


def text_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file with their ends; see `text_chunks`."""
    for chunk in text_chunks(file, path, BLOCK):
        yield from chunk


def text_chunks(file: BinaryIO, path: Path, step: int = STEP) -> Iterator[list[str]]:
    r"""Yield some `step` bytes of a file at a time as lines with their ends; bytes that are no UTF-8 become surrogates.

    A line ends with \n, or with \r in a file without any \n at its beginning. A line beyond `LINE` is `TOO_LONG`.
    """
    rest: list[bytes] = []
    size, old_mac = 0, None
    for block in blocks(file, path):
        if old_mac is None:
            old_mac = b"\n" not in block and b"\r" in block
        block = block.replace(b"\r", b"\n") if old_mac else block
        end = block.rfind(b"\n") + 1
        if end and size + end >= step:
            yield decoded_lines(b"".join([*rest, block[:end]]))
            rest, size = [block[end:]], len(block) - end
        elif size < LINE + step:
            rest, size = [*rest, block], size + len(block)
    if size:
        yield decoded_lines(b"".join(rest))


def decoded_lines(content: bytes) -> list[str]:
    if len(content) > LINE:
        lines = io.BytesIO(content)
        return [line.decode("utf-8", "surrogateescape") if len(line) <= LINE else TOO_LONG for line in lines]
    return io.StringIO(content.decode("utf-8", "surrogateescape"), newline="\n").readlines()


def parse(line: str, dialect: Dialect) -> Record | None:
    """Return the cells of a record that is one line; None where it is none."""
    try:
        return next(csv.reader([line], strict=True, **dialect.options), [])
    except csv.Error:
        return None


class Reader:
    """Reads the records behind the header of an open file, and counts what tells whether it is written with quotes.

    `lines` counts the lines that were read, `broken` those that are no record because of a quote, `swallowed` those
    inside quotes that are records by themselves, `needed` the records that are none without quoting, or whose cells
    are all quoted, and `backslashed` those that are no records and hold a quote behind a backslash.
    """

    def __init__(self, chunks: Iterator[list[str]], dialect: Dialect) -> None:
        self.chunks, self.dialect = behind_header(chunks, dialect), dialect
        if dialect.escaped:
            self.chunks = ([dialect.doubled(line) for line in chunk] for chunk in self.chunks)
        self.width = len(dialect.names)
        self.lines = dialect.before + 1
        self.broken = self.swallowed = self.needed = self.backslashed = self.parsed_again = 0
        csv.field_size_limit(max(csv.field_size_limit(), LINE))

    def batches(self) -> Iterator[list[Record | None]]:
        """Yield the records behind the header, some at a time and in order; None for one that does not fit."""
        lines: list[str] = []
        for chunk in self.chunks:
            lines += chunk
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
                        records.append(record)
                    elif record:
                        records.append(None)
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

    def note_quotes(self, lines: list[str], record: Record) -> None:
        """Count a record whose quotes are in order for or against quoting."""
        separator = self.dialect.separator
        if len(lines) > 1 and all(line.count(separator) == self.width - 1 for line in lines):
            if all_quoted("".join(lines), separator):
                self.needed += 1
            else:
                self.swallowed += len(lines)
        elif any(separator in cell or "\n" in cell or ('"' in cell and '""' in lines[0]) for cell in record):
            self.needed += 1

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
        return record if record is not None and len(record) == self.width else None


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

    `records` is counted apart from them: each line of the file belongs to a record or is left over.
    """

    records: int
    malformed: int


def write_records(path: Path, dialect: Dialect, out: Path, report: Report = no_report) -> Counted:
    """Write the records of a delimited file to the Parquet file `out`, all columns as text; return their numbers.

    A record that does not fit the header is null in every column.
    """
    counted, reader = _write(path, dialect, out, report)
    if reader.backslashed:
        escaped = replace(dialect, escaped=True)
        again, _ = _write(path, escaped, out.with_suffix(".escaped"), report)
        if again.malformed <= counted.malformed / 2:
            report(f"{path.resolve().name} has a backslash before quotes: reading it again so")
            out.with_suffix(".escaped").replace(out)
            return again
        out.with_suffix(".escaped").unlink()
    if dialect.quoting and not dialect.quoted_header and dialect.separator not in OFTEN_QUOTED:
        unquoted = replace(dialect, quoting=False)
        against = reader.broken + reader.swallowed
        if reader.needed < against and misfits(path, unquoted) < against / 2:
            report(f"{path.resolve().name} does not quote: reading it again with quotes as plain characters")
            counted, _ = _write(path, unquoted, out, report)
    return counted


def misfits(path: Path, dialect: Dialect) -> int:
    """Return how many lines from the header on are no record without quoting."""
    width = len(dialect.names)
    with path.open("rb") as file:
        lines = islice(text_lines(file, path), dialect.before, None)
        return sum(line.count(dialect.separator) != width - 1 for line in lines if line.strip())


def behind_header(chunks: Iterator[list[str]], dialect: Dialect) -> Iterator[list[str]]:
    skipped = dialect.before + 1
    for chunk in chunks:
        behind = chunk[skipped:]
        skipped -= len(chunk) - len(behind)
        yield behind


def _write(path: Path, dialect: Dialect, out: Path, report: Report) -> tuple[Counted, Reader]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in dialect.names])
    headings, nothing = Headings(path, dialect.names), [None] * len(dialect.names)
    written = malformed = 0
    total, reported = path.stat().st_size, monotonic()
    with path.open("rb") as file, pq.ParquetWriter(out, schema, compression="none", use_dictionary=False) as writer:
        reader = Reader(text_chunks(file, path), dialect)
        for records in reader.batches():
            records = headings.removed(records)
            if not records:
                continue
            try:
                batch = pa.record_batch([pa.array(cells, pa.string()) for cells in zip(*records, strict=True)], schema)
            except (TypeError, UnicodeEncodeError):
                sound = [record if record and is_sound(record) else nothing for record in records]
                batch = pa.record_batch([pa.array(cells, pa.string()) for cells in zip(*sound, strict=True)], schema)
                malformed += sound.count(nothing)
            writer.write_batch(batch)
            written += len(records)
            if monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = monotonic()
                report(f"{path.resolve().name}: {file.tell() / 1e6:,.0f} of {total / 1e6:,.0f} MB read")
    return Counted(written + count_lines(path) - reader.lines, malformed), reader


class Headings:
    """Finds headers between the records of a table that was joined by hand.

    They may be spelled a little otherwise than the first. One of a table with other columns, or in another order, ends
    the reading, since what follows it would be read as what it is not.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, [name.lower() for name in names]
        spellings = {spelling for name in names for spelling in (name, name.lower(), name.upper(), name.title())}
        self.first_cells = {before + spelling + behind for spelling in spellings for before, behind in AROUND_NAMES}

    def removed(self, records: list[Record | None]) -> list[Record | None]:
        """Return the records without headers; raise PipelineError for a header with other columns."""
        known = self.first_cells
        for record in [record for record in records if record and record[0] in known]:
            cells = [cell.strip(" \ufeff\"'").lower() for cell in record]
            if cells == self.names:
                records.remove(record)
            elif 2 * len(set(cells) & set(self.names)) > len(cells):
                raise PipelineError(
                    f"{self.path.resolve()}, which the setting corpus names, has a second header with other columns or"
                    f" in another order ({', '.join(cells)}): write what is below it to a file of its own."
                )
        return records


def count_lines(path: Path) -> int:
    """Return the number of line ends in a file, and one more for a last line without an end."""
    number, last, old_mac = 0, b"\n", None
    with path.open("rb") as file:
        for block in blocks(file, path):
            if old_mac is None:
                old_mac = b"\n" not in block and b"\r" in block
            number, last = number + block.count(b"\r" if old_mac else b"\n"), block[-1:]
    return number + (last != (b"\r" if old_mac else b"\n"))
