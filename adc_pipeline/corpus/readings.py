"""What the tasks of a corpus read: small files together, and large plain ones in parts that end with a line.

A query costs as much as 10,000 rows, so that one query reads many small files of a kind. Where rows go to several
shards, a large file of JSON lines is cut, so that several nodes of a cluster can read it. One machine cuts it alike:
each part's rows become files of the artefact, whose digest must not depend on where it was made. A part is copied
before it is read, which costs 0.4 CPU s a gigabyte.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.packings import packing
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.readers import json_lines, lines
from adc_pipeline.corpus.readers.arrow import read_schema
from adc_pipeline.corpus.readers.dialects import read_dialect

# Small files are read together, this many at most.
SMALL_FILE, MOST_FILES = 1 << 20, 2000
# DuckDB's name of the column with a row's file.
FILE_NAME = "filename"


@dataclass(frozen=True)
class Reading:
    """What one task reads: parts that one query can read together, or bytes of the only part's plain file."""

    parts: tuple[Part, ...]
    namespace: str
    begin: int = 0
    end: int = 0


def whole_readings(parts: Sequence[Part], namespaces: Sequence[str], carries: bool = False) -> Iterator[Reading]:
    """Yield tasks for the parts in order, those together that one query can read.

    One that `carries` further columns reads one part.
    """
    for (_, namespace), group in groupby(
        zip(parts, namespaces, strict=True),
        lambda each: (each[0].path if carries else batch_key(each[0]), each[1]),
    ):
        batch = [part for part, _ in group]
        for begin in range(0, len(batch), MOST_FILES):
            yield Reading(tuple(batch[begin : begin + MOST_FILES]), namespace)


def batch_key(part: Part) -> object:
    """Return what small files that can be read together have in common; its own path for any other part."""
    if part.what.kind == "convokit":
        utterances = part.path / UTTERANCES
        return "convokit" if utterances.stat().st_size <= SMALL_FILE else part.path
    if part.what.container not in ("lines", "csv", "parquet", "arrow") or part.path.stat().st_size > SMALL_FILE:
        return part.path
    if part.what.container in ("parquet", "arrow"):
        schema = read_schema(part.path, part.what.container)
        names = list(map(str.lower, schema.names))
        # The metadata of a schema may differ from file to file.
        return part.path if FILE_NAME in names else (part.what, str(schema.remove_metadata()))
    # A packed one may hold a thousand times as much.
    if packing(part.path) != "none" and part.path.stat().st_size > SMALL_FILE / 16:
        return part.path
    if part.what.container == "lines":
        return "dump" if part.what.kind in ("submissions", "comments") else part.what
    if part.what.container == "csv" and part.what.kind == "table":
        dialect = read_dialect(part.path)
        if FILE_NAME not in map(str.lower, dialect.names):
            return dialect
    return part.path


def cut(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield the tasks in order, with several in place of one that reads a large plain file, each some lines of it."""
    for reading in readings:
        file = plain_lines(reading.parts[0]) if len(reading.parts) == 1 else None
        if file is None or file.stat().st_size <= json_lines.CHUNK:
            yield reading
        else:
            for begin, end in pairwise(line_ends(file, json_lines.CHUNK)):
                yield replace(reading, begin=begin, end=end)


def plain_lines(part: Part) -> Path | None:
    """Return the file of a part whose lines can be read apart from one another; None for any other part."""
    if part.what.kind == "convokit":
        file = part.path / UTTERANCES
    elif part.what.kind in ("submissions", "comments") and part.what.container == "lines":
        file = part.path
    else:
        return None
    return file if json_lines.is_one_object_a_line(file) else None


def line_ends(path: Path, size: int) -> Iterator[int]:
    """Yield places in a plain file: 0, the ends of lines behind each multiple of `size`, and the end of the file."""
    end = path.stat().st_size
    yield 0
    with path.open("rb") as file:
        place = 0
        while place + size < end:
            file.seek(place + size - 1)
            while (block := file.read(lines.MIB)) and (found := block.find(b"\n")) < 0:
                pass
            if not block:
                break
            place = file.tell() - len(block) + found + 1
            if place < end:
                yield place
    yield end


@contextmanager
def cut_out(reading: Reading, folder: Path) -> Iterator[Sequence[Part]]:
    """Yield the parts of a task; the bytes that it reads of a file lie in `folder` meanwhile."""
    if not reading.end:
        yield reading.parts
        return
    (part,) = reading.parts
    folder.mkdir()
    path = folder / part.path.name
    if part.what.kind == "convokit":
        path.mkdir()
        for other in part.path.iterdir():
            if other.name != UTTERANCES:
                (path / other.name).symlink_to(other.resolve())
    whole, copy = (part.path / UTTERANCES, path / UTTERANCES) if path.is_dir() else (part.path, path)
    with whole.open("rb") as source, copy.open("wb") as target:
        place = reading.begin
        while place < reading.end:
            place += os.sendfile(target.fileno(), source.fileno(), place, reading.end - place)
    try:
        yield [replace(part, path=path)]
    except PipelineError as error:
        # Name what the person knows.
        raise type(error)(str(error).replace(str(path.resolve()), str(part.path.resolve()))) from error
    shutil.rmtree(folder)
