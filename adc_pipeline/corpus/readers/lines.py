"""Whole lines out of a long JSON-lines file, compressed or not, in plain files of a bounded size.

DuckDB parses JSON on every core, but it cannot read the long windows of Reddit's dumps, and it stops at a
line beyond its limit. So a file is unpacked here into pieces of about 256 MiB, one being written while
DuckDB reads the one before: two lie on disk at most, and memory holds one line and a few blocks whatever the
file's length.
"""

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import BinaryIO

from adc_pipeline.core.engine import SECONDS_BETWEEN_REPORTS, Report, no_report
from adc_pipeline.corpus.packings import MARK, blocks, cut_off, packing

MIB = 1 << 20
CHUNK = 256 * MIB
# What DuckDB promises to read (its maximum_object_size). Beyond it, a line's place in the file decides.
LINE = 16 * MIB
# DuckDB reads this as a row from which nothing could be read.
UNREADABLE_LINE = b"null\n"
NEWLINE = ord("\n")


def has_mark(path: Path) -> bool:
    """Return whether a plain file begins with a byte order mark, which `chunks` removes."""
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK


# Yields whole lines, with their ends, out of an open file that lies at a path.
ReadLines = Callable[[BinaryIO, Path], Iterator[bytes]]


def chunks(
    path: Path, scratch: Path, report: Report = no_report, read: ReadLines | None = None
) -> Generator[Path, None, None]:
    """The lines of `path` as plain files in the folder `scratch`, each deleted when the next is asked for.

    A line beyond `LINE` bytes is replaced by one that cannot be read, so that it is counted. `report` hears
    every five seconds how far it is. Raises PipelineError where the file ends in the middle or is damaged.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="lines-", dir=scratch))
    try:
        with ThreadPoolExecutor(1) as ahead:
            written = _written(path, folder, report, read or whole_lines)
            coming = ahead.submit(next, written, None)
            while chunk := coming.result():
                coming = ahead.submit(next, written, None)
                yield chunk
                chunk.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(path: Path, folder: Path, report: Report, read: ReadLines) -> Iterator[Path]:
    total, number, reported = path.stat().st_size, 0, monotonic()
    with path.open("rb") as file:
        lines = read(file, path)
        more = next(lines, None)
        while more is not None:
            chunk = folder / f"{number:05}.jsonl"
            with chunk.open("wb") as out:
                while more is not None and out.tell() < CHUNK:
                    out.write(more)
                    if monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                        reported = monotonic()
                        report(f"{path.resolve().name}: {file.tell() / 1e6:,.0f} of {total / 1e6:,.0f} MB read")
                    more = next(lines, None)
            yield chunk
            number += 1


def whole_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The unpacked bytes of `file`, cut behind ends of lines; the last one ends with a newline, too."""
    begun: list[bytes] = []
    length = 0
    for block in blocks(file, path):
        first, end = block.find(b"\n") + 1, block.rfind(b"\n") + 1
        length += first or len(block)
        if length > LINE:
            begun = []
        else:
            begun.append(block[: first or len(block)])
        if first:
            yield b"".join(begun) if begun else UNREADABLE_LINE
            if end > first:
                yield block[first:end]
            begun, length = [block[end:]], len(block) - end
    if length > LINE:
        yield UNREADABLE_LINE
    elif last := b"".join(begun):
        refuse_cut_off(last, path)
        yield last + b"\n"


def plain_file(path: Path, folder: Path, read: ReadLines | None = None) -> Path:
    """Return a small file as a plain one that DuckDB can read: itself, or the lines that `read` gives, in `folder`."""
    if read is None and packing(path) == "none" and not has_mark(path):
        check_end(path)
        return path
    plain = folder / f"{len(os.listdir(folder)):05}-{path.name}.jsonl"
    with path.open("rb") as file, plain.open("wb") as out:
        out.writelines((read or whole_lines)(file, path))
    return plain


def check_end(path: Path) -> None:
    """Raise PipelineError if a plain file of JSON lines ends in the middle of one; reads one line at most."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LINE))
        _, newline, last = file.read().rpartition(b"\n")
    if newline or size <= LINE:
        refuse_cut_off(last, path)


def refuse_cut_off(last: bytes, path: Path) -> None:
    """Raise PipelineError for a last line that has no newline and is no whole JSON either."""
    if not last.strip():
        return
    try:
        json.loads(last.decode(errors="replace"))
    except RecursionError:
        return
    except ValueError as error:
        raise cut_off(path) from error


def count_lines(path: Path) -> int:
    """Return the number of lines of a plain file; blank ones count.

    numpy compares in a third of the time that `bytes.count` takes, which would be a twentieth of reading a corpus.
    """
    import numpy as np

    content = bytearray(MIB // 4)
    block = np.frombuffer(content, np.uint8)
    number, last = 0, NEWLINE
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(content):
            number += int(np.count_nonzero(block[:size] == NEWLINE))
            last = int(block[size - 1])
    return number + (last != NEWLINE)


def count_filled_lines(path: Path) -> int:
    """Return the number of lines of a plain file that are not blank; takes several times as long as `count_lines`."""
    number, filled = 0, False
    with path.open("rb") as file:
        while block := file.read(MIB):
            first, *others = block.split(b"\n")
            filled = filled or (not first.isspace() and bool(first))
            for line in others:
                number += filled
                filled = not line.isspace() and bool(line)
    return number + filled
