"""Many small files of JSON lines as few plain ones.

Opening a file costs DuckDB as much as reading some 200 kB.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from adc_pipeline.corpus.opening.packings import END_OF_TEXT
from adc_pipeline.corpus.opening.remote import RemoteFile
from adc_pipeline.corpus.readers.json_lines import ReadLines, is_one_object_a_line, is_plain, json_lines
from adc_pipeline.corpus.readers.lines import check_end, refuse_cut_off
from adc_pipeline.corpus.readers.mended_json import is_sound, mended
from adc_pipeline.corpus.readers.rows import FILE_NUMBER


def plain_file(path: Path, folder: Path, read: ReadLines | None = None) -> Path:
    """Return a small file as a plain one that DuckDB can read: itself, or the lines that `read` gives, in `folder`.

    Its lines are `mended`.
    """
    if read is None and is_one_object_a_line(path) and is_sound(path.read_bytes()):
        check_end(path)
        return path
    plain = folder / f"{len(os.listdir(folder)):05}-{path.name}.jsonl"
    with path.open("rb") as file, plain.open("wb") as out:
        out.writelines(map(mended, (read or json_lines)(file, path)))
    return plain


# Opening a file costs DuckDB as much as reading some 200 kB (0.8 ms of a core), so smaller ones are joined.
JOINED, MOST_JOINED = 64 << 10, 500
BEGIN = re.compile(rb"^[ \t\r]*\{", re.MULTILINE)


def plain_files(
    paths: Sequence[Path], names: Sequence[str], folder: Path, read: ReadLines | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Yield small files as plain ones, as `plain_file` does, each with its names: neighbours below `JOINED` are joined.

    Each object in a joined file has the number of its own file, from 1, under the key `FILE_NUMBER`, before all other
    keys: DuckDB takes the first of two. A file with a line that is no object stays alone, so that its rows have its
    name.
    """
    waiting: list[tuple[bytes, str]] = []
    for path, name in zip(paths, names, strict=True):
        content = _small_content(path, read)
        if waiting and (content is None or len(waiting) == MOST_JOINED):
            yield _joined(waiting, folder)
            waiting = []
        if content is None:
            yield plain_file(path, folder, read), [name]
        else:
            waiting.append((content, name))
    if waiting:
        yield _joined(waiting, folder)


def _joined(files: Sequence[tuple[bytes, str]], folder: Path) -> tuple[Path, list[str]]:
    """Write files of these contents as one; return it with their names."""
    path = folder / f"{len(os.listdir(folder)):05}.jsonl"
    with path.open("wb") as out:
        for number, (content, _) in enumerate(files, 1):
            out.write(BEGIN.sub(b'{"%s": %d, ' % (FILE_NUMBER.encode(), number), content))
    return path, [name for _, name in files]


def _small_content(path: Path, read: ReadLines | None) -> bytes | None:
    """Return the lines of a file as `plain_file` gives them; None if they are many, or one is no JSON object."""
    if path.stat().st_size > JOINED:
        return None
    with path.open("rb") as file:
        content = file.read()
        file.seek(0)
        plain = is_plain(content) and not content.endswith(END_OF_TEXT) and not isinstance(path, RemoteFile)
        if read is None and plain and is_sound(content):
            refuse_cut_off(content.rpartition(b"\n")[2], path)
        else:
            found, blocks = bytearray(), map(mended, (read or json_lines)(file, path))
            while len(found) <= JOINED and (block := next(blocks, b"")):
                found += block
            content = bytes(found)
    if len(content) > JOINED or not all(map(is_object, BytesIO(content))):
        return None
    return content if content.endswith(b"\n") else content + b"\n"


def is_object(line: bytes) -> bool:
    """Return whether a line is a JSON object that is not empty, or blank."""
    try:
        found = json.loads(line.decode()) if line.strip() else {"": None}
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool(found)
