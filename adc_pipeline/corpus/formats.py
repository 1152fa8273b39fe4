"""What a file or folder is, told from its content: a ConvoKit corpus, a dump of Reddit, a table, or none of them.

Names are not trusted: a dump is a dump whether it is called RC_2018-09.zst or comments.txt. The first lines
are unpacked (a megabyte, or as much as the first object is long) and the rest is left alone.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.packings import BLOCK, blocks
from adc_pipeline.corpus.readers import lines

Format = Literal["auto", "convokit", "dump", "table"]
Kind = Literal["convokit", "submissions", "comments", "table"]

LINES_LOOKED_AT = 1000
PARQUET_MAGIC = b"PAR1"
DELIMITERS = (",", "\t", ";", "|")


def recognise(path: Path, wanted: Format = "auto") -> Kind:
    """What `path` is; `wanted`, the setting `format`, overrides what its content says.

    Raises PipelineError for what cannot be a corpus. A folder is a ConvoKit corpus or nothing here: the
    files of a folder of dumps are asked for one by one.
    """
    if wanted not in get_args(Format):
        raise PipelineError(f"The setting format is {wanted!r}: give one of {', '.join(get_args(Format))}.")
    if path.is_dir():
        if wanted in ("auto", "convokit") and (path / "utterances.jsonl").is_file():
            return "convokit"
        raise unfit(path, "is a folder without utterances.jsonl")
    if wanted == "convokit":
        raise unfit(path, "is one file, and a ConvoKit corpus is a folder or a zip of one")
    if wanted == "table" or is_parquet(path):
        if wanted == "dump":
            raise unfit(path, "is a Parquet file and not a dump")
        return "table"
    first = [line for line in first_lines(path) if line.strip()]
    found = next(filter(None, map(keys, first)), None)
    if wanted == "dump":
        return kind_of_dump(found or set()) or "submissions"
    if found:
        kind = kind_of_dump(found)
        if kind:
            return kind
        if {"conversation_id", "root", "reply_to", "reply-to"} & found:
            raise unfit(
                path, "holds the lines of a ConvoKit corpus alone: give the folder, with them as utterances.jsonl"
            )
        raise unfit(path, f"holds JSON objects with the keys {', '.join(sorted(found)[:12])}, which no known dump has")
    if not first:
        raise unfit(path, "is empty")
    if first[0].lstrip()[:1] in (b"{", b"["):
        raise unfit(path, "begins like JSON, but none of its first lines is a JSON object")
    if delimiter(first[0]):
        return "table"
    raise unfit(path, "is neither JSON lines nor a Parquet or CSV file")


def unfit(path: Path, what: str) -> PipelineError:
    return PipelineError(
        f"{path} {what}: give the setting corpus (or ADC_CORPUS) a ConvoKit corpus, a dump of Reddit or a table, or"
        " say what it is by the setting format."
    )


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == PARQUET_MAGIC


def first_lines(path: Path) -> Iterator[bytes]:
    """The first lines of a file, unpacked; the last of a shorter file as it is, whole or not."""
    rest = b""
    with path.open("rb") as file:
        for block in islice(blocks(file, path), 0, max(1, lines.LINE // BLOCK)):
            *whole, rest = (rest + block).split(b"\n")
            yield from whole[:LINES_LOOKED_AT]
            if whole:
                return
    yield rest


def keys(line: bytes) -> set[str]:
    """The keys of the JSON object in a line; none where there is no such object."""
    try:
        value = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return set()
    return set(value) if isinstance(value, dict) else set()


def kind_of_dump(found: set[str]) -> Kind | None:
    if {"link_id", "body"} & found and "id" in found:
        return "comments"
    return "submissions" if {"selftext", "title"} & found and "id" in found else None


def delimiter(header: bytes) -> str | None:
    """What separates the columns of a CSV file, from its header; None where nothing does."""
    try:
        text = header.decode("utf-8-sig")
    except ValueError:
        return None
    most = max(DELIMITERS, key=text.count)
    return most if most in text and "\0" not in text else None
