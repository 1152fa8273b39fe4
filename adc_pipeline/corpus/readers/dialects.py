r"""How a delimited text file is written: the sign between its cells, its quotes, and where its header stands.

- The usual separators are the comma, semicolon, tab and bar. Any other sign is one where it separates five names or
  more in the header, such as ^, : and the control characters of Hive; so are several signs, such as || and ::.
- Lines that begin with #, %, ; or // before the header are remarks. One of them is the header where it has the cells of
  a record.
- Lines of fewer than five cells before the header are titles, as in sheets, since a table of utterances has five
  columns.
- Where the cells of the header are in apostrophes, these quote. Where spaces separate five of them in quotes or more,
  as R's `write.table` writes them, these separate all cells.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers.text_lines import text_lines

SEPARATORS = (",", "\t", ";", "|")
# Signs that stand in the names of columns, or around them, and separators that an unusual one needs in the header.
IN_NAMES = "_-. \"'()[]{}#/"
LEAST_SEPARATORS = 4
# Separators of several signs, and what stands for one while a line is parsed: a code point that no text may hold.
SEVERAL_SIGNS = re.compile(r"""[^\w\s.'"()\[\]{}]{2,}""")
SEPARATION = "\ufdd1"
# A line that begins with a semicolon may also be the header of a table whose first column has no name.
REMARK = re.compile(rf"\s*(?:[#%]|//|;(?!(?:[^;]*;){{{LEAST_SEPARATORS}}}))")
IN_APOSTROPHES = re.compile(r"\s*'[^']*'\s*")
# A line between the header and the records of a table that was drawn for people.
RULE = re.compile(r"[\s|+:=-]*---[\s|+:=-]*")
# The name of a column below a title.
COLUMN = re.compile(r"[^\W\d][\w .()/:-]{0,39}")
# The header of R's `write.table`, which separates by spaces.
QUOTED_NAMES = re.compile(rf'"[^"]*"(?: "[^"]*"){{{LEAST_SEPARATORS},}}')
# Excel's first line, which names the separator, before the header.
NAMED_SEPARATOR = re.compile(r'"?sep=([^\w"\'\r\n])"?\s*')
# Lines behind the header that tell whether each ends with a separator.
LINES_LOOKED_AT = 20
# Lines among which the header is looked for.
HEADER_WITHIN = 100
# What databases write behind a backslash, ClickHouse also an apostrophe, and code points that stand for these signs
# while a line is parsed.
BEHIND_BACKSLASH = {"'": "'", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "Z": "\x1a"}
STAND_INS = {letter: chr(0xFDD2 + number) for number, letter in enumerate(BEHIND_BACKSLASH)}
MEANT = str.maketrans({STAND_INS[letter]: sign for letter, sign in BEHIND_BACKSLASH.items()})

Record = list[str]


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    `names` are the columns of its header, behind `before` lines of another kind. `quoting` says whether quotes mean
    anything, `quote` which sign they are, `quoted_header` whether the header has some, `escaped` whether a backslash
    stands before quotes inside quotes, `slashed` whether one stands before line ends, tabs and backslashes inside texts
    without quotes, `guarded` whether one stands before whatever could be taken for another sign than text, and `spaced`
    whether a space follows each separator.
    """

    names: list[str]
    separator: str
    quoting: bool = True
    quote: str = '"'
    before: int = 0
    quoted_header: bool = False
    escaped: bool = False
    slashed: bool = False
    guarded: bool = False
    spaced: bool = False

    @property
    def options(self) -> dict[str, Any]:
        quoting = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        return {
            "delimiter": self.sign,
            "quoting": quoting,
            "quotechar": self.quote,
            "doublequote": not self.guarded,
            "escapechar": "\\" if self.slashed or self.guarded else None,
            "skipinitialspace": self.spaced,
        }

    @property
    def sign(self) -> str:
        """What separates the cells of a line that is `prepared`."""
        return self.separator if len(self.separator) == 1 else SEPARATION

    def prepared(self, line: str) -> str:
        """Return a line as the parser reads it, which knows separators of one sign and quotes that are doubled."""
        if self.escaped:
            line = self.doubled(line)
        if (self.slashed or self.guarded) and "\\" in line:
            line = re.sub(r"\\(.)", behind_backslash, line)
        return line.replace(self.separator, SEPARATION) if len(self.separator) > 1 else line

    def restored(self, record: Record) -> Record:
        """Return a record that was parsed from lines that are `prepared`, with the signs that others stood for."""
        if self.slashed or self.guarded:
            return [cell.translate(MEANT) for cell in record]
        return [cell.replace(SEPARATION, self.separator) for cell in record] if len(self.separator) > 1 else record

    @property
    def escaped_quote(self) -> str:
        return "\\" + self.quote

    def doubled(self, line: str) -> str:
        """Return a line with each quote doubled that a backslash escapes, which is not escaped itself."""
        return re.sub(rf"(?<!\\)((?:\\\\)*)\\{self.quote}", rf"\1{self.quote * 2}", line)


def behind_backslash(found: re.Match[str]) -> str:
    """Return what stands for a backslash and the sign behind it, as the parser reads it; \\N is a missing value."""
    return "\\\\N" if found[1] == "N" else STAND_INS.get(found[1], found[0])


def read_dialect(path: Path) -> Dialect:
    """Return the dialect that the header of a file tells; raise PipelineError for a file without a header."""
    with path.open("rb") as file:
        first = list(islice(text_lines(file, path), HEADER_WITHIN))
    before, header, separator = find_header(first)
    following = [line for line in first[before + 1 :] if line.strip()][:LINES_LOOKED_AT]
    # R's `write.table` writes \\" for a quote.
    written = Dialect([], separator or ",", before=before, quoted_header='"' in header, escaped=separator == " ")
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
    lowered = [name.lower() for name in names]
    if twice := [name for name in names if lowered.count(name.lower()) > 1]:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, has two columns of one name ({', '.join(twice)}):"
            " rename one, or put a header above if this is a record."
        )
    return replace(written, names=names)


def find_header(lines: Sequence[str]) -> tuple[int, str, str | None]:
    """Return the place of the header among the first lines of a file, the header, and what separates its cells if any.

    Before it there may be empty lines, one that names the separator, remarks, and titles. The last remark is the header
    where it has the cells of the first record.
    """
    filled = [place for place, line in enumerate(lines) if line.strip()]
    named = NAMED_SEPARATOR.fullmatch(lines[filled[0]]) if filled else None
    filled = filled[1:] if named else filled
    if not filled:
        return 0, "", None
    remarks = list(takewhile(lambda place: REMARK.match(lines[place]), filled))
    others = filled[len(remarks) :]
    place = (others or filled)[0]
    header = lines[place]
    if remarks:
        remark = re.sub(r"^\s*(?:[#%;]|//) *", "", lines[remarks[-1]])
        separator = named[1] if named else separator_of(remark, lines[place : place + 1])
        if separator and is_header(remark, header if others else "", separator):
            place, header = remarks[-1], remark
    separator = named[1] if named else separator_of(header, lines[place + 1 :])
    if len(filled_cells(header, separator)) <= LEAST_SEPARATORS and (below := below_titles(lines, place + 1)):
        return below
    return place, header, separator if separator and separator in header else None


def filled_cells(line: str, separator: str | None) -> list[str]:
    cells = parse(line, Dialect([], separator)) if separator else [line]
    return [cell.strip() for cell in cells or [] if cell.strip()]


def below_titles(lines: Sequence[str], begin: int) -> tuple[int, str, str] | None:
    """Return what `find_header` does for the first line from `begin` on whose cells are names of columns, if any."""
    for place in range(begin, len(lines)):
        separator = separator_of(lines[place], lines[place + 1 :]) if lines[place].strip() else None
        cells = filled_cells(lines[place], separator)
        if separator and len(set(cells)) == len(cells) > LEAST_SEPARATORS and all(map(COLUMN.fullmatch, cells)):
            return place, lines[place], separator
    return None


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
        records = [record for record in csv.reader(map(dialect.prepared, lines), **dialect.options) if record]
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
    numbered = all(record[0].isdecimal() for record in records) and len({record[0] for record in records}) == len(
        records
    )
    if width == len(cells) + 1 and numbered and dialect.quoted_header and lines[0].startswith(dialect.quote):
        return ["", *cells]
    return cells


def separator_of(header: str, behind: Sequence[str]) -> str | None:
    """Return what separates the cells of a header, before the lines `behind` it; None if nothing does."""
    # Of a file whose lines end with \r, all is the first line. A column's name may hold commas, but no tab.
    header = header.strip(" \n\r").partition("\r")[0]
    if "\0" in header:
        return None
    if QUOTED_NAMES.fullmatch(header):
        return " "
    if several := several_signs(header, behind):
        return several
    most = "\t" if "\t" in header else max(SEPARATORS, key=header.count)
    if header.count(most) >= LEAST_SEPARATORS:
        return most
    others = sorted({sign for sign in header if not (sign.isalnum() or sign in IN_NAMES or sign in SEPARATORS)})
    other = max(others, key=header.count, default="")
    cells = [cell.strip() for cell in header.split(other)] if other else []
    if len(cells) > LEAST_SEPARATORS and all(cells) and len(set(cells)) == len(cells):
        return other
    return most if most in header else None


def several_signs(header: str, behind: Sequence[str]) -> str:
    """Return the signs, two or more, that separate all names of a header and the cells of a line behind it."""
    found = SEVERAL_SIGNS.findall(header)
    if len(found) < LEAST_SEPARATORS or len(set(found)) > 1:
        return ""
    names = [name.strip() for name in header.split(found[0])]
    filled = [line for line in behind if line.strip()]
    fits = not filled or any(line.count(found[0]) >= len(found) for line in filled)
    return found[0] if fits and len(set(names)) == len(names) else ""


def parse(line: str, dialect: Dialect) -> Record | None:
    """Return the cells of a record that is one line; None where it is none."""
    try:
        return next(csv.reader([dialect.prepared(line)], strict=True, **dialect.options), [])
    except csv.Error:
        return None
