"""The lines of a delimited text file, as text: unpacked, in steps, whatever ends them."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from adc_pipeline.corpus.opening.packings import BLOCK, blocks
from adc_pipeline.corpus.readers.lines import LINE

# A line beyond this length is no record. As text it has a quote that fits nowhere, so that the parser rejects it.
TOO_LONG = '"too long"\0\n'
LINE_END = re.compile(rb"\r*\n|\r")
# Bytes that are parsed and written at a time: more objects at once only give the garbage collector more to do.
STEP = 1 << 20


def text_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file with their ends; see `text_chunks`."""
    for chunk in text_chunks(file, path, BLOCK):
        yield from chunk


def text_chunks(file: BinaryIO, path: Path, step: int = STEP) -> Iterator[list[str]]:
    r"""Yield some `step` bytes of a file at a time as lines with their ends; bytes that are no UTF-8 become surrogates.

    A line ends with \n, or with \r in a file whose first line does. A line beyond `LINE` is `TOO_LONG`.
    """
    rest: list[bytes] = []
    size, old_mac = 0, None
    for block in blocks(file, path):
        if old_mac is None:
            old_mac = ends_lines_with_returns(block)
        block = block.replace(b"\r", b"\n") if old_mac else block
        end = block.rfind(b"\n") + 1
        if end and size + end >= step:
            yield decoded_lines(b"".join([*rest, block[:end]]))
            rest, size = [block[end:]], len(block) - end
        elif size < LINE + step:
            rest, size = [*rest, block], size + len(block)
    if size:
        yield decoded_lines(b"".join(rest))


def ends_lines_with_returns(block: bytes) -> bool:
    r"""Return whether the first line ends with \r, as on old Macs and in their Excel, which writes \n inside cells."""
    found = LINE_END.search(block)
    return found is not None and found[0] == b"\r"


def decoded_lines(content: bytes) -> list[str]:
    if len(content) > LINE:
        lines = io.BytesIO(content)
        return [line.decode("utf-8", "surrogateescape") if len(line) <= LINE else TOO_LONG for line in lines]
    return io.StringIO(content.decode("utf-8", "surrogateescape"), newline="\n").readlines()


def count_lines(path: Path) -> int:
    """Return the number of line ends in a file, and one more for a last line without an end."""
    number, last, old_mac = 0, b"\n", None
    with path.open("rb") as file:
        for block in blocks(file, path):
            if old_mac is None:
                old_mac = ends_lines_with_returns(block)
            block = block.replace(b"\r", b"\n") if old_mac else block
            number, last = number + block.count(b"\n"), block[-1:]
    return number + (last != b"\n")


# Signs beyond ASCII one beside the other, and what no text holds.
BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def other_encoding(lines: Iterable[bytes]) -> str:
    """Return what the encoding of some lines may be if it is none of Unicode's, as the object of a sentence; else none.

    Bytes that are damaged make one line unreadable, or hold control signs, or stand beside other signs in UTF-8.
    """
    undecoded = []
    for line in lines:
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError:
                undecoded.append(line)
            else:
                return ""
    if len(undecoded) < 2 or any(map(CONTROL.search, undecoded)):
        return ""
    runs = [len(run) for line in undecoded for run in BEYOND_ASCII.findall(line)]
    # Words of other scripts consist of such signs.
    if sum(runs) < 2 * len(runs):
        return "Windows-1252 (`iconv -f WINDOWS-1252 -t UTF-8`) or a similar encoding"
    return "another encoding, such as Windows-1251 (`iconv -f WINDOWS-1251 -t UTF-8`), GB18030 or Shift_JIS"


# A smaller share of JSON lines that are no UTF-8 is damaged: programs escape most signs beyond ASCII.
LEAST_UNDECODED = 0.001
LINES_KEPT = 1000


def other_encoding_of_lines(path: Path) -> str:
    """Return the encoding of a plain file of JSON lines, as `other_encoding` does."""
    number, undecoded, kept = 0, 0, list[bytes]()
    with path.open("rb") as file:
        for line in file:
            number += 1
            if line.isascii():
                continue
            try:
                line.decode()
            except UnicodeDecodeError:
                undecoded += 1
                if len(kept) < LINES_KEPT:
                    kept.append(line)
            else:
                return ""
    return other_encoding(kept) if undecoded >= LEAST_UNDECODED * number else ""


def lines_beyond_ascii(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not ASCII."""
    with path.open("rb") as file:
        for chunk in text_chunks(file, path):
            yield from (line.encode("utf-8", "surrogateescape") for line in chunk if not line.isascii())
