"""Recognise what a file or folder is from its content: a ConvoKit corpus, a dump of Reddit, a table, a known layout.

Names are not trusted: a dump is a dump whether it is called RC_2018-09.zst or comments.txt. Only the first bytes are
read and unpacked (a megabyte, or as much as the first line is long). What a file is and what is done about it is
decided in three tables: `first_bytes.SIGNATURES` (container), `layouts.LAYOUTS` (fields), and the setting `columns`.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import check_file
from adc_pipeline.corpus.layouts.known import find_layout, row_by_row
from adc_pipeline.corpus.layouts.layout import Layout
from adc_pipeline.corpus.layouts.reddit import REDDIT, REDDIT_ADDRESSES
from adc_pipeline.corpus.layouts.stack_exchange import STACK_EXCHANGE_POSTS
from adc_pipeline.corpus.layouts.without_scores import NO_SCORE
from adc_pipeline.corpus.opening.first_bytes import BINARY, DOWNLOAD, TEXT, content
from adc_pipeline.corpus.opening.packings import blocks, packing
from adc_pipeline.corpus.opening.recorded_files import CONVOKIT_FILES, CONVOKIT_READ, STACK_EXCHANGE_FILES, UTTERANCES
from adc_pipeline.corpus.opening.remote import RemoteFile
from adc_pipeline.corpus.opening.unfit import LostRecordsError, UnfitError, in_other_encoding, names, refused, unfit
from adc_pipeline.corpus.readers.carried import MAPPED, NEEDED, own
from adc_pipeline.corpus.readers.dialects import HEADER_WITHIN, find_header
from adc_pipeline.corpus.readers.text_lines import other_encoding
from adc_pipeline.corpus.recognition.file_fields import (
    Container,
    first_lines,
    header_fields,
    is_mapped,
    keys,
    later_keys,
    parsed,
    schema_fields,
    schema_record,
    text,
    xml_fields,
)
from adc_pipeline.corpus.recognition.inner_records import refuse_inner_records, wrapped_records

Format = Literal["auto", "convokit", "dump", "table"]
Kind = Literal["convokit", "submissions", "comments", "table", "layout", "archive"]
# JSONP and exports that assign JSON to a variable; what Python prints of a dict; and an object as a JSON string.
SCRIPT = re.compile(rb"\s*(?:(?:var|let|const)\s+)?[A-Za-z_$][\w$.\[\]\"']*\s*[=(]\s*[\[{]")
PYTHON = re.compile(rb"""\s*\[?\s*\{\s*u?'[^']*'\s*:""")
ENCODED_TWICE = re.compile(rb'\s*"\s*\{\s*\\"')
# The first line of a file of settings, and the keys of an answer that tells of an error.
SECTION = re.compile(rb"\s*\[+[A-Za-z_][\w .-]*\]+\s*")
ERROR_KEYS = {
    *("error", "errors", "message", "msg", "detail", "status", "code", "statusCode", "reason", "success", "type"),
    *("documentation_url", "error_code", "error_description", "timestamp", "path"),
}
EMPTY = "is empty"
MAP_THEM = (
    "if each is one utterance, map them by the setting columns, such as {text: body}; or give the setting corpus (or"
    " ADC_CORPUS) a ConvoKit corpus, a dump of Reddit or another known layout"
)


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


# What files were found to be, by all that this depends on: a run looks at each file several times. A server lives for
# months, so that it forgets them all when they are too many.
MOST_SEEN = 200_000
SEEN: "dict[tuple[object, ...], Recognised]" = {}


def recognise(path: Path, wanted: Format = "auto", columns: Mapping[str, str] | None = None) -> Recognised:
    """Return what `path` is. The settings `format` (here `wanted`) and `columns` take precedence over the content.

    Raises PipelineError for what cannot be a corpus, with what it is and what to do. A folder is a ConvoKit corpus or
    nothing here: `folders` looks into folders of other files.
    """
    if isinstance(path, RemoteFile) or not path.is_file():
        return recognise_anew(path, wanted, columns)
    # Taken before the look: what changes meanwhile is looked at again.
    known = identity(path, wanted, columns)
    if (found := SEEN.get(known)) is None:
        found = recognise_anew(path, wanted, columns)
        remember(known, found)
    return found


def identity(path: Path, wanted: Format, columns: Mapping[str, str] | None) -> tuple[object, ...]:
    stat = path.stat()
    of_file = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    return (*of_file, wanted, *sorted((columns or {}).items()))


def remember(known: tuple[object, ...], found: Recognised) -> None:
    """Have `recognise` return `found` for the file of this `identity`."""
    if len(SEEN) >= MOST_SEEN:
        SEEN.clear()
    SEEN[known] = found


def recognise_anew(path: Path, wanted: Format, columns: Mapping[str, str] | None) -> Recognised:
    if wanted not in get_args(Format):
        raise PipelineError(f"The setting format is {wanted!r}: give one of {', '.join(get_args(Format))}.")
    if path.is_dir():
        if wanted in ("auto", "convokit") and (path / UTTERANCES).is_file():
            for name in CONVOKIT_FILES:
                check_convokit_file(path, name)
            what = Recognised("convokit", "folder")
            first = list(first_lines(path / UTTERANCES))
            refuse_other_encoding(path / UTTERANCES, first)
            refuse_objects(path / UTTERANCES, what, holding_objects(list(map(parsed, first))), {})
            return what
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
    if found.container in ("parquet", "arrow", "zip") and packing(path) != "none":
        raise refused(path, f"is {found.what} that is packed once more: unpack it first")
    if found.container in ("zip", "tar"):
        return Recognised("archive", found.container)
    if found.container in ("parquet", "arrow"):
        fields = schema_fields(path, found.container)
        what = of_columns(path, found.container, fields, wanted, columns or {})
        refuse_one_name_twice(path, found.container, what, columns or {})
        refuse_objects(path, what, {field.partition(".")[0] for field in fields if "." in field}, columns or {})
        if what.layout is None or not what.layout.inside:
            refuse_inner_records(path, [schema_record(path, found.container)], columns or {})
        return what
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


def refuse_other_encoding(path: Path, lines: Sequence[bytes]) -> None:
    if encoding := other_encoding(lines):
        raise in_other_encoding(path, encoding)


def of_text(path: Path, wanted: Format, columns: Mapping[str, str]) -> Recognised:
    """Return what a file of text is: JSON lines, a CSV file, or neither, which raises PipelineError."""
    first = [line for line in first_lines(path) if line.strip()]
    objects = [found for found in map(parsed, first) if found]
    # Most lines have the same keys.
    records: list[Collection[str]] = list(dict.fromkeys(map(keys, objects)))
    refuse_other_encoding(path, first)
    if objects and objects[0].get("type") == "header" and "phpmyadmin" in str(objects[0].get("comment")).lower():
        raise refused(path, "is a table that phpMyAdmin wrote as JSON: export it as CSV, with the names of its columns")
    if objects and holds_columns(objects[0]):
        raise refused(
            path,
            "holds a whole table as one JSON object, its columns apart: write it by rows, one JSON object a line",
        )
    if len(objects) == 1 and objects[0].keys() <= ERROR_KEYS:
        raise refused(path, f"is an error message of a site and not the file: {DOWNLOAD}")
    if records or wanted == "dump":
        try:
            what = of_records(path, records, wanted, columns)
        except UnfitError:
            if outer := next((key for record in objects for key in wrapped_records(record, columns)), ""):
                raise LostRecordsError(
                    f"{path}, which the setting corpus names, holds each record inside another object, under a key such"
                    f" as {outer}: write what is inside on a line of its own."
                ) from None
            refuse_inner_records(path, objects, columns, answered=False)
            raise
        refuse_objects(path, what, holding_objects(objects), columns)
        if what.layout is None or not what.layout.inside:
            refuse_inner_records(path, objects, columns)
        return what
    with path.open("rb") as file:
        first_block = next(blocks(file, path), b"").lstrip()
    start = first_block[:1]
    if PYTHON.match(first_block):
        raise refused(
            path, "holds Python's notation of objects, which is no JSON: write them by `json.dumps`, one object a line"
        )
    if SECTION.fullmatch(first_block.partition(b"\n")[0]):
        raise refused(path, "is a file of settings (INI or TOML): name the corpus itself")
    if start == b"[":
        raise refused(
            path,
            "begins a JSON array, and none of its first values is a JSON object: write each utterance as an object",
        )
    if not first:
        raise refused(path, f"{EMPTY}: fetch it again, or leave it out")
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
    if find_header([text(line) for line in first[:HEADER_WITHIN]])[2]:
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
    reddit = reddit_layout(records)
    known = None if wanted == "dump" or reddit else find_layout(records)
    if reddit and not any(layout.fits(found) for layout in REDDIT for found in records):
        raise refused(
            path,
            f"holds Reddit's records with keys of other spellings than Reddit's ({names(every)}): write them in small"
            " letters",
        )
    if wanted == "dump" or reddit:
        return of_reddit(path, "lines", reddit, every)
    if known:
        return of_layout(path, "lines", row_by_row(known, records))
    lacked = sorted(set(own(columns).values()) - every)
    if lacked:
        unknown = ", ".join(f"{name}{did_you_mean(name, sorted(every))}" for name in lacked)
        raise refused(path, f"has no key {unknown} but {names(every)}: correct the setting columns")
    if "meta" in every and {"conversation_id", "root", "reply_to", "reply-to"} & every:
        raise refused(path, f"holds the lines of a ConvoKit corpus alone: give the folder, with them as {UTTERANCES}")
    raise refused(path, f"holds JSON objects with the keys {names(every)}, which no known layout has: {MAP_THEM}")


def reddit_layout(records: Sequence[Collection[str]]) -> Layout | None:
    """Return which of Reddit's records those with these keys are; None if none of them is one."""
    found = find_layout(records, REDDIT)
    # Records of others have an address, too, and so do posts.
    others = find_layout(records) or any("title" in map(str.lower, keys) for keys in records)
    return None if found is REDDIT_ADDRESSES and others else found


def of_reddit(path: Path, container: Container, layout: Layout | None, fields: Collection[str]) -> Recognised:
    """Return what records of Reddit are; raise PipelineError for comments that do not tell where they belong."""
    if layout is None or layout.has_roots:
        return Recognised("submissions", container)
    has = {field.lower() for field in fields}
    if lacked := [name for name in ("link_id", "parent_id") if name not in has]:
        raise LostRecordsError(
            f"{path}, which the setting corpus names, holds comments of Reddit without {' and '.join(lacked)}, so that"
            f" they do not tell {'what each answers' if 'parent_id' in lacked else 'which post each belongs to'}: fetch"
            " them with link_id and parent_id."
        )
    return Recognised("comments", container)


def of_columns(
    path: Path, container: Container, fields: set[str], wanted: Format, columns: Mapping[str, str]
) -> Recognised:
    """Return what a table with these columns is: our own or mapped, Reddit's, another known layout, or unknown."""
    if wanted == "table" or is_mapped(fields, columns):
        return Recognised("table", container)
    reddit = reddit_layout([fields])
    if reddit:
        return of_reddit(path, container, reddit, fields)
    if wanted == "dump":
        raise unfit(path, f"is a {container.capitalize()} file and not a dump")
    known = find_layout([fields])
    if known:
        return of_layout(path, container, known)
    if container == "xml" and is_disqus(path):
        raise refused(path, f"is an export of Disqus, whose posts{NO_SCORE.removeprefix(', which')}")
    if container == "xml" and not fields:
        raise refused(path, "is an XML file without elements `row` that hold values: write it as CSV or Parquet")
    if container == "xml":
        raise refused(path, f"is an XML file with the fields {names(fields)}, which no known layout has: {MAP_THEM}")
    # `check_columns` names what it lacks.
    return Recognised("table", container, certain=False)


def is_disqus(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<disqus " in next(blocks(file, path), b"")[:4096]


def refuse_one_name_twice(path: Path, container: Container, what: Recognised, columns: Mapping[str, str]) -> None:
    """Raise PipelineError if a column that may be read has the name of another, in any case: DuckDB renames one."""
    from adc_pipeline.corpus.readers.arrow import read_schema

    found = read_schema(path, container).names
    number = Counter(map(str.lower, found))
    read = {columns.get(name, name).lower() for name in MAPPED} | set(map(str.lower, columns.values()))
    twice = [name for name in found if number[name.lower()] > 1 and (what.kind != "table" or name.lower() in read)]
    if twice:
        raise refused(path, f"has two columns of one name ({', '.join(twice)}): rename one")


# Fields that hold a name or a text; a client of Reddit's interface has an object for an author or a subreddit.
PLAIN_OF_REDDIT = ("id", "link_id", "author", "body", "selftext", "title", "subreddit")
PLAIN = ("id", "conversation_id", "reply_to", "speaker")
PLAIN_OF_CONVOKIT = (*PLAIN, "root", "reply-to", "user")


# Of so many records with a field, one may hold an object there by mistake.
RECORDS_A_SLIP = 20


def holding_objects(records: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys under which records hold objects, but for a few by mistake and for values of MongoDB's."""
    filled = Counter(key for record in records for key, value in record.items() if value not in (None, ""))
    held = Counter(
        key
        for record in records
        for key, value in record.items()
        if isinstance(value, dict) and value and not all(inner.startswith("$") for inner in value)
    )
    return {key for key, number in held.items() if RECORDS_A_SLIP * number > filled[key]}


def refuse_objects(path: Path, what: Recognised, outer: Collection[str], columns: Mapping[str, str]) -> None:
    """Raise PipelineError where a name or a text is an object, which would be read as its JSON.

    `outer` are the fields that hold objects.
    """
    if what.kind == "layout" or not what.certain:
        return
    is_table = what.kind == "table"
    # All texts of a column have one type; among lines, one that is an object may be a slip.
    plain = (*PLAIN, "text") if what.container in ("parquet", "arrow") else PLAIN
    of_a_table = [columns.get(name, name) for name in plain]
    names = of_a_table if is_table else PLAIN_OF_CONVOKIT if what.kind == "convokit" else PLAIN_OF_REDDIT
    for name in names:
        if name in outer:
            advice = "map a member of it by the setting columns, such as {speaker: author.name}"
            raise refused(
                path,
                f"holds an object under the key {name}, where a name or a text is read:"
                f" {advice if is_table else 'write the name or the text in its place'}",
            )


def of_layout(path: Path, container: Container, layout: Layout) -> Recognised:
    if layout.refused:
        raise refused(path, layout.refused, layout.companion)
    return Recognised("layout", container, layout)


def holds_columns(record: Mapping[str, Any]) -> bool:
    """Return whether a record has a list, or an object by row numbers, under each of its keys, all of one length.

    Or a list of columns beside one of rows, as pandas writes tables, too.
    """
    values = list(record.values())
    if isinstance(record.get("columns"), list) and isinstance(record.get("data"), list):
        return True
    if len(values) < len(NEEDED) or not all(isinstance(value, list | dict) and value for value in values):
        return False
    by_number = (isinstance(value, list) or all(key.isdigit() for key in value) for value in values)
    return len({len(value) for value in values}) == 1 and all(by_number)
