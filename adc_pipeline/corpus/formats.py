"""Recognise what a file or folder is from its content: a ConvoKit corpus, a dump of Reddit, a table, a known layout.

Names are not trusted: a dump is a dump whether it is called RC_2018-09.zst or comments.txt. Only the first bytes are
read and unpacked (a megabyte, or as much as the first line is long). What a file is and what is done about it is
decided in three tables: `first_bytes.SIGNATURES` (container), `layouts.LAYOUTS` (fields), and the setting `columns`.
"""

import csv
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import check_file
from adc_pipeline.corpus.first_bytes import BINARY, TEXT, content
from adc_pipeline.corpus.layouts import REDDIT, STACK_EXCHANGE_POSTS, Layout, find_layout, row_by_row
from adc_pipeline.corpus.packings import BLOCK, blocks, packing
from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.readers.carried import own, spelled
from adc_pipeline.corpus.readers.delimited import NAMED_SEPARATOR, separator_of
from adc_pipeline.corpus.recorded_files import CONVOKIT_FILES, CONVOKIT_READ, STACK_EXCHANGE_FILES, UTTERANCES
from adc_pipeline.corpus.remote import RemoteFile

Format = Literal["auto", "convokit", "dump", "table"]
Kind = Literal["convokit", "submissions", "comments", "table", "layout", "archive"]
Container = Literal["folder", "lines", "csv", "parquet", "arrow", "xml", "zip", "tar"]

LINES_LOOKED_AT = 1000
# JSONP and exports that assign JSON to a variable; and an object as a JSON string.
SCRIPT = re.compile(rb"\s*(?:(?:var|let|const)\s+)?[A-Za-z_$][\w$.\[\]\"']*\s*[=(]\s*[\[{]")
ENCODED_TWICE = re.compile(rb'\s*"\s*\{\s*\\"')
# Read at most for the first line that is not too long.
MOST_BLOCKS = 10 * lines.LINE // BLOCK
# Without one of these a table holds no ranked conversations.
NEEDED = ("id", "conversation_id", "reply_to", "text", "score")


@dataclass(frozen=True)
class Recognised:
    """What a path is: how it is read (`kind`, `layout`), and what it comes in (`container`)."""

    kind: Kind
    container: Container
    layout: Layout | None = None
    # Whether the content tells that it holds utterances; a text with a comma in its first line may be a table or not.
    certain: bool = True

    @property
    def has_roots(self) -> bool:
        return self.kind == "submissions" or (self.layout is not None and self.layout.has_roots)


# What files were found to be, by all that this depends on: a run looks at each file several times.
SEEN: "dict[tuple[object, ...], Recognised]" = {}


def recognise(path: Path, wanted: Format = "auto", columns: Mapping[str, str] | None = None) -> Recognised:
    """Return what `path` is. The settings `format` (here `wanted`) and `columns` take precedence over the content.

    Raises PipelineError for what cannot be a corpus, with what it is and what to do. A folder is a ConvoKit corpus or
    nothing here: `folders` looks into folders of other files.
    """
    if isinstance(path, RemoteFile) or not path.is_file():
        return recognise_anew(path, wanted, columns)
    known = identity(path, wanted, columns)
    if known not in SEEN:
        SEEN[known] = recognise_anew(path, wanted, columns)
    return SEEN[known]


def identity(path: Path, wanted: Format, columns: Mapping[str, str] | None) -> tuple[object, ...]:
    stat = path.stat()
    of_file = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    return (*of_file, wanted, *sorted((columns or {}).items()))


def remember(path: Path, wanted: Format, columns: Mapping[str, str] | None, found: Recognised) -> None:
    """Have `recognise` return `found` for a file that was copied or moved here as a whole."""
    SEEN[identity(path, wanted, columns)] = found


def recognise_anew(path: Path, wanted: Format, columns: Mapping[str, str] | None) -> Recognised:
    if wanted not in get_args(Format):
        raise PipelineError(f"The setting format is {wanted!r}: give one of {', '.join(get_args(Format))}.")
    if path.is_dir():
        if wanted in ("auto", "convokit") and (path / UTTERANCES).is_file():
            for name in CONVOKIT_FILES:
                check_convokit_file(path, name)
            return Recognised("convokit", "folder")
        if wanted == "auto" and (path / STACK_EXCHANGE_FILES[0]).is_file():
            return Recognised("layout", "folder", STACK_EXCHANGE_POSTS)
        raise unfit(path, f"is a folder without {UTTERANCES}")
    if not isinstance(path, RemoteFile):
        check_file(path, "corpus")
    if wanted == "convokit":
        raise unfit(path, "is one file, and a ConvoKit corpus is a folder or a zip of one")
    found = content(path)
    if found.advice:
        raise refused(path, f"is {found.what}: {found.advice}")
    if found.container in ("zip", "tar"):
        return Recognised("archive", found.container)
    if found.container in ("parquet", "arrow") and packing(path) != "none":
        raise refused(path, f"is {found.what} that is packed once more: unpack it first")
    if found.container in ("parquet", "arrow"):
        return of_columns(path, found.container, schema_fields(path, found.container), wanted, columns or {})
    if found.container == "xml":
        return of_columns(path, "xml", xml_fields(path), wanted, columns or {})
    return of_text(path, wanted, columns or {})


def check_convokit_file(folder: Path, name: str) -> None:
    """Raise PipelineError for a file of a ConvoKit corpus that is not what its name says."""
    path = folder / name
    if os.path.lexists(path):
        check_file(path, "corpus")
        found = content(path) if name in CONVOKIT_READ else TEXT
        # A damaged line may hold zeros.
        if found.container != "text" and found is not BINARY:
            raise refused(path, f"is {found.what}: {found.advice or 'put the JSON in its place'}")
    elif others := sorted(other.name for other in folder.glob(f"{name}.*") if other.is_file()):
        raise refused(path.with_name(others[0]), f"has another name than {name}: rename it, packed or not")


def of_text(path: Path, wanted: Format, columns: Mapping[str, str]) -> Recognised:
    """Return what a file of text is: JSON lines, a CSV file, or neither, which raises PipelineError."""
    first = [line for line in first_lines(path) if line.strip()]
    # Most lines have the same keys.
    records: list[Collection[str]] = [found for found in dict.fromkeys(map(keys, first)) if found]
    if records or wanted == "dump":
        return of_records(path, records, wanted, columns)
    with path.open("rb") as file:
        start = next(blocks(file, path), b"").lstrip()[:1]
    if start == b"[":
        raise refused(
            path,
            "begins a JSON array, and none of its first values is a JSON object: write each utterance as an object",
        )
    if not first:
        raise refused(path, "is empty: fetch it again, or leave it out")
    if start == b"{":
        raise refused(
            path,
            "begins like JSON, but none of its first records is a JSON object of at most 16 MiB: write one object a"
            " line (JSON lines)",
        )
    if SCRIPT.match(first[0]):
        raise refused(path, "is a script with JSON in it: keep what is between its first and last bracket")
    if ENCODED_TWICE.match(first[0]):
        raise refused(path, "holds each JSON object as a text, so it was encoded twice: decode each line once")
    if separator_of(text(first[0])):
        return of_columns(path, "csv", header_fields(first), wanted, columns)
    if wanted == "table":
        return Recognised("table", "csv")
    raise unfit(path, "is neither JSON lines nor a Parquet or CSV file")


def of_records(
    path: Path, records: Sequence[Collection[str]], wanted: Format, columns: Mapping[str, str]
) -> Recognised:
    """Return what JSON lines with these keys are."""
    every: set[str] = set().union(*records)
    every |= later_keys(path, every, columns)
    if wanted == "table" or (wanted == "auto" and is_mapped(every, columns)):
        return Recognised("table", "lines")
    reddit = find_layout(records, REDDIT)
    known = None if wanted == "dump" or reddit else find_layout(records)
    if wanted == "dump" or reddit:
        return Recognised("submissions" if reddit is None or reddit.has_roots else "comments", "lines")
    if known:
        return of_layout(path, "lines", row_by_row(known, records))
    lacked = sorted(set(own(columns).values()) - every)
    if lacked:
        unknown = ", ".join(f"{name}{did_you_mean(name, sorted(every))}" for name in lacked)
        raise refused(path, f"has no key {unknown} but {names(every)}: correct the setting columns")
    if "meta" in every and {"conversation_id", "root", "reply_to", "reply-to"} & every:
        raise unfit(path, f"holds the lines of a ConvoKit corpus alone: give the folder, with them as {UTTERANCES}")
    raise refused(path, f"holds JSON objects with the keys {names(every)}, which no known layout has: {MAP_THEM}")


def of_columns(
    path: Path, container: Container, fields: set[str], wanted: Format, columns: Mapping[str, str]
) -> Recognised:
    """Return what a table with these columns is: our own or mapped, Reddit's, another known layout, or unknown."""
    if wanted == "table" or is_mapped(fields, columns):
        return Recognised("table", container)
    reddit = find_layout([fields], REDDIT)
    if reddit:
        return Recognised("submissions" if reddit.has_roots else "comments", container)
    if wanted == "dump":
        raise unfit(path, f"is a {container.capitalize()} file and not a dump")
    known = find_layout([fields])
    if known:
        return of_layout(path, container, known)
    if container == "xml" and not fields:
        raise refused(path, "is an XML file without elements `row` that hold values: write it as CSV or Parquet")
    if container == "xml":
        raise refused(path, f"is an XML file with the fields {names(fields)}, which no known layout has: {MAP_THEM}")
    # `check_columns` names what it lacks.
    return Recognised("table", container, certain=False)


def of_layout(path: Path, container: Container, layout: Layout) -> Recognised:
    if layout.refused:
        raise refused(path, layout.refused, layout.companion)
    return Recognised("layout", container, layout)


MAP_THEM = (
    "if each is one utterance, map them by the setting columns, such as {text: body}; or give the setting corpus (or"
    " ADC_CORPUS) a ConvoKit corpus, a dump of Reddit or another known layout"
)


def later_keys(path: Path, first: Collection[str], columns: Mapping[str, str]) -> set[str]:
    """Return the key of the parent where only later lines have it, as in a file of posts and, behind them, replies.

    The file is searched only if its first lines, with the keys `first`, have everything else that a table needs.
    """
    parent = columns.get("reply_to", "reply_to")
    others = ({columns.get(name, name) for name in NEEDED} | set(own(columns).values())) - {parent}
    if parent in first or not others <= set(first):
        return set()
    key, rest = json.dumps(parent).encode(), b""
    with path.open("rb") as file:
        for block in blocks(file, path):
            if key in rest + block:
                return {parent}
            rest = block[-len(key) :]
    return set()


def is_mapped(fields: set[str], columns: Mapping[str, str]) -> bool:
    """Return whether a record has all that a table needs, by our names or by those of `columns`, in any case."""
    wanted = {columns.get(name, name) for name in NEEDED} | set(own(columns).values())
    return all(spelled(name, fields) in fields for name in wanted)


def names(found: set[str]) -> str:
    """Return the first twelve of some keys as text; nested ones are left to their parents."""
    return ", ".join(sorted(name for name in found if "." not in name)[:12])


class UnfitError(PipelineError):
    """A file that can be opened and is no corpus; `reason` says what it is, as the end of a sentence.

    A `companion` often lies beside a corpus, and is no reason to doubt it.
    """

    def __init__(self, sentence: str, reason: str = "", companion: bool = False) -> None:
        super().__init__(sentence)
        self.reason, self.companion = reason, companion


def unfit(path: Path, what: str) -> UnfitError:
    """Return the error for a path that is no corpus, where a look at it does not tell what to do."""
    return UnfitError(
        f"{path} {what}: give the setting corpus (or ADC_CORPUS) a ConvoKit corpus, a dump of Reddit or a table, or"
        " say what it is by the setting format.",
        what,
    )


def refused(path: Path, what: str, companion: bool = False) -> UnfitError:
    """Return the error for a path of a known kind; `what` names it and, behind a colon, what to do."""
    return UnfitError(f"{path}, which the setting corpus names, {what}.", what.partition(":")[0], companion)


def first_lines(path: Path) -> Iterator[bytes]:
    """Yield the first lines of a file, unpacked; the last line of a shorter file as it is, complete or not."""
    rest = b""
    with path.open("rb") as file:
        head = lines.beginning(file, path)
        if lines.is_spread(head) or lines.envelope(head):
            with suppress(PipelineError):
                yield from islice(lines.json_lines(file, path), LINES_LOOKED_AT)
            return
        # Lines beyond the limit of a reader do not count.
        for block in islice(blocks(file, path), 0, MOST_BLOCKS):
            *whole, rest = (rest + block).split(b"\n")
            found = [line for line in whole[:LINES_LOOKED_AT] if len(line) <= lines.LINE]
            yield from found
            if found:
                return
            rest = rest[: lines.LINE + 1]
    yield rest


def keys(line: bytes) -> frozenset[str]:
    """Return the keys of the JSON object in a line, and those of the objects in it, dotted; none if it is no object."""
    try:
        value = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(value, dict):
        return frozenset()
    nested = (f"{outer}.{inner}" for outer, found in value.items() if isinstance(found, dict) for inner in found)
    return frozenset(value).union(nested)


def known_fields(path: Path, container: Container, layout: Layout | None = None) -> set[str]:
    """Return the fields of a file's records as far as its beginning tells, dotted where nested.

    Where a layout names records inside these, they are those that count.
    """
    match container:
        case "lines":
            records = list(first_lines(path))
            if layout is not None and layout.inside:
                from adc_pipeline.corpus.readers.nested import Flatten

                records = [inner for line in records for inner in Flatten(layout).lines(line)]
            return set().union(*map(keys, records))
        case "parquet" | "arrow":
            return schema_fields(path, container)
        case "xml":
            return xml_fields(path)
        case _:
            return header_fields([line for line in islice(first_lines(path), 100) if line.strip()])


def schema_fields(path: Path, container: Container) -> set[str]:
    """Return the columns of a Parquet or Arrow file, and those of the structures in it, dotted."""
    from adc_pipeline.corpus.readers.arrow import read_schema
    from adc_pipeline.corpus.readers.tables import schema_names

    return set(schema_names(read_schema(path, container)))


def xml_fields(path: Path) -> set[str]:
    """Return the attributes of the first rows of an XML file."""
    from adc_pipeline.corpus.readers.xml import first_records

    return set().union(*first_records(path))


def header_fields(lines: Sequence[bytes]) -> set[str]:
    """Return the columns that the header of a CSV file names, out of its first lines."""
    first = text(lines[0]) if lines else ""
    header = text(lines[1]) if NAMED_SEPARATOR.fullmatch(first) and len(lines) > 1 else first
    try:
        return {name.strip() for name in next(csv.reader([header], delimiter=separator_of(first) or ","), [])}
    except csv.Error:
        return set()


def text(line: bytes) -> str:
    """Return a line as text without its byte order mark; bytes that are no UTF-8 become escapes."""
    return line.decode("utf-8-sig", errors="backslashreplace")
