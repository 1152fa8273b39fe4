"""The lines of a delimited text file, as text: unpacked, in steps, whatever ends them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adc_pipeline.corpus.packings import BLOCK, blocks
from adc_pipeline.corpus.readers.lines import LINE

# A line beyond this length is no record. As text it has a quote that fits nowhere, so that the parser rejects it.
TOO_LONG = '"too long"\0\n'
# Bytes that are parsed and written at a time: more objects at once only give the garbage collector more to do.
STEP = 1 << 20


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


def count_lines(path: Path) -> int:
    """Return the number of line ends in a file, and one more for a last line without an end."""
    number, last, old_mac = 0, b"\n", None
    with path.open("rb") as file:
        for block in blocks(file, path):
            if old_mac is None:
                old_mac = b"\n" not in block and b"\r" in block
            number, last = number + block.count(b"\r" if old_mac else b"\n"), block[-1:]
    return number + (last != (b"\r" if old_mac else b"\n"))
