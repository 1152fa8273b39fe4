"""Whole lines out of a long JSON-lines file, compressed or not, in plain files of a bounded size.

DuckDB parses JSON on every core, but it cannot read the long windows of Reddit's dumps, and it stops at a
line beyond its limit. So a file is unpacked here into pieces of about 256 MiB, one being written while
DuckDB reads the one before: two lie on disk at most, and memory holds one line and a few blocks whatever the
file's length.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.opening.packings import BLOCK, END_OF_TEXT, MARK, blocks, packing_of
from adc_pipeline.corpus.opening.remote import RemoteFile
from adc_pipeline.corpus.readers.json_values import envelope, is_spread, objects
from adc_pipeline.corpus.readers.lines import MIB, whole_lines
from adc_pipeline.corpus.readers.mended_json import (
    REMARKS,
    documents,
    has_repeats,
    is_extended,
    is_wrapped,
    mended,
    without_extended,
    without_remarks,
    without_repeats,
)
from adc_pipeline.corpus.readers.progress import Progress

CHUNK = 256 * MIB


def is_one_object_a_line(path: Path) -> bool:
    """Return whether DuckDB can read a file in place.

    It is plain, on a disk, begins with no mark, remark, array, answer of an interface or document of an index, its
    beginning holds no values of MongoDB's and no object with one key twice, and it does not end as DOS ends a text.
    """
    if isinstance(path, RemoteFile):
        return False
    with path.open("rb") as file:
        if not is_plain(file.read(BLOCK)):
            return False
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        return file.read() != END_OF_TEXT


def is_plain(first: bytes) -> bool:
    """Return whether DuckDB can read what begins with these bytes; see `is_one_object_a_line`."""
    other = first.startswith(MARK) or is_spread(first) or is_extended(first) or envelope(first) or has_repeats(first)
    other = other or is_wrapped(first) or REMARKS.match(first) is not None
    return not other and packing_of(first[:16]) == "none"


# Yields whole lines, with their ends, out of an open file that lies at a path.
ReadLines = Callable[[BinaryIO, Path], Iterator[bytes]]
# A plain file that has been read is written over, which takes half the time of a new one.
SPARE = "spare"


def chunks(
    path: Path, scratch: Path, report: Report = no_report, read: ReadLines | None = None
) -> Generator[Path, None, None]:
    """The lines of `path` as plain files in the folder `scratch`, each there until the next is asked for.

    A line beyond `LINE` bytes is replaced by one that cannot be read, so that it is counted. `report` hears
    every five seconds how far it is. Raises PipelineError where the file ends in the middle or is damaged.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="lines-", dir=scratch))
    try:
        with ThreadPoolExecutor(1) as ahead:
            written = _written(path, folder, report, read or json_lines)
            coming = ahead.submit(next, written, None)
            while chunk := coming.result():
                coming = ahead.submit(next, written, None)
                yield chunk
                chunk.rename(folder / SPARE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(path: Path, folder: Path, report: Report, read: ReadLines) -> Iterator[Path]:
    number = 0
    with path.open("rb") as file:
        lines, progress = read(file, path), Progress(file, path, report)
        more = next(lines, None)
        while more is not None:
            chunk = folder / f"{number:05}.jsonl"
            with suppress(FileNotFoundError):
                (folder / SPARE).rename(chunk)
            with chunk.open("r+b" if chunk.exists() else "wb") as out:
                while more is not None and out.tell() < CHUNK:
                    out.write(more)
                    progress.update()
                    more = next(lines, None)
                out.truncate()
            yield chunk
            number += 1


def json_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, or the objects of one that is not written as one object a line, each as a line."""
    first = beginning(file, path)
    key = envelope(first)
    found = objects(file, path, key) if key or is_spread(first) else whole_lines(file, path)
    found = without_remarks(found) if REMARKS.match(first) else found
    found = documents(found) if is_wrapped(first) else found
    found = without_repeats(found) if has_repeats(first) else found
    return without_extended(found) if is_extended(first) else found


def beginning(file: BinaryIO, path: Path) -> bytes:
    """Return the first `BLOCK` bytes of a file, unpacked; the file is at its beginning afterwards."""
    found = b""
    for block in blocks(file, path):
        found += block
        if len(found) >= BLOCK:
            break
    file.seek(0)
    return found


def mended_json_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as `json_lines` does, mended."""
    return map(mended, json_lines(file, path))
