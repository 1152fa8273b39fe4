"""JSON lines that DuckDB reads in another way than they are meant, or not at all, as lines that it reads.

These are remarks, documents of a search index inside what it says of them, values in MongoDB's Extended JSON, keys that
an object has twice, several objects on a line, byte order marks where files were joined, and halves of surrogate pairs.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from typing import Any

from adc_pipeline.corpus.opening.packings import MARK
from adc_pipeline.corpus.readers.json_values import ADJACENT, is_followed_by_another
from adc_pipeline.corpus.readers.lines import UNREADABLE_LINE

# Remarks before the first record, of which JSON has none.
REMARKS = re.compile(rb"\s*(?:(?:#|//)[^\n]*\n\s*)+(?=\{)")
LEADING_REMARKS = re.compile(rb"\A\s*(?:(?:#|//)[^\n]*\n\s*)*")


def without_remarks(found: Iterator[bytes]) -> Iterator[bytes]:
    """Yield some lines without remarks before the first record."""
    for block in found:
        if rest := LEADING_REMARKS.sub(b"", block, count=1):
            yield rest
            yield from found


# Elasticsearch and OpenSearch write a document as what the index says of it, with the document itself inside.
DOCUMENT, BESIDE_DOCUMENT = "_source", re.compile("_.*|sort|fields|highlight|matched_queries|found")


def is_wrapped(first: bytes) -> bool:
    """Return whether JSON lines that begin with these bytes hold the documents of an index."""
    return b'"_source"' in first and bool(document(first.lstrip().partition(b"\n")[0]))


def document(line: bytes) -> dict[str, Any]:
    """Return the document in a line; an empty one if the line holds none."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return {}
    inside = found.get(DOCUMENT) if isinstance(found, dict) else None
    if not isinstance(inside, dict) or not all(map(BESIDE_DOCUMENT.fullmatch, found)):
        return {}
    return {"id": found["_id"], **inside} if "_id" in found else inside


def documents(found: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the documents in some lines, each as a line."""
    for block in found:
        for line in BytesIO(block):
            inside = document(line)
            yield json.dumps(inside).encode() + b"\n" if inside else UNREADABLE_LINE if line.strip() else line


# MongoDB's Extended JSON has {"$oid": "..."} for an id, {"$date": ...} for a time, {"$numberLong": "7"} for a number:
# https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/. Inside a text the quotes have backslashes.
EXTENDED = re.compile(rb'\{\s*"\$(?:oid|date|number(?:Long|Int|Double|Decimal))"\s*:\s*("[^"\\]*"|-?[\d.eE+-]+)\s*\}')


def is_extended(first: bytes) -> bool:
    """Return whether JSON that begins with these bytes has values of MongoDB's."""
    return b'"$' in first and EXTENDED.search(first) is not None


def without_extended(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield some lines with each of MongoDB's values as a plain one."""
    for line in lines:
        # A date may hold a number.
        yield EXTENDED.sub(_plain, EXTENDED.sub(_plain, line)) if b'"$' in line else line


def _plain(extended: re.Match[bytes]) -> bytes:
    value, number = extended[1], extended[1].strip(b'"')
    return number if b"$number" in extended[0] and NUMBER.fullmatch(number) else value


# Lines at the beginning of a file that tell whether its objects have keys twice.
LINES_LOOKED_AT = 5


class RepeatedKey(ValueError):
    """An object has one key twice."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKey
    return found


ONCE = json.JSONDecoder(strict=False, object_pairs_hook=once)


def is_repeated(line: bytes) -> bool:
    """Return whether an object in a line has one key twice, of which DuckDB takes the first and Python the last."""
    try:
        ONCE.decode(line.decode(errors="replace").strip(" \t\r\n,[]"))
    except RepeatedKey:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def has_repeats(first: bytes) -> bool:
    """Return whether JSON that begins with these bytes repeats keys in its first lines."""
    return any(map(is_repeated, islice(BytesIO(first), LINES_LOOKED_AT)))


def without_repeats(found: Iterator[bytes]) -> Iterator[bytes]:
    """Yield some lines, each with the last value of a key that an object repeats."""
    for block in found:
        for line in BytesIO(block):
            with suppress(ValueError):
                line = json.dumps(json.loads(line)).encode() + b"\n" if is_repeated(line) else line
            yield line


NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


def parted(line: bytes) -> bytes:
    """Return a line without a byte order mark, and with each of several objects on a line of its own.

    So they lie where files were joined of which one did not end with its last line.
    """
    line = line.removeprefix(MARK)
    if not is_followed_by_another(line):
        return line
    text, place, found = line.decode("utf-8", "surrogateescape"), 0, []
    with suppress(ValueError, RecursionError):
        while place < len(text):
            _, end = json.JSONDecoder(strict=False).raw_decode(text, place)
            found.append(text[place:end])
            place = end + len(text[end:]) - len(text[end:].lstrip("\ufeff \t\r\n"))
    # What follows them is no JSON.
    found += [text[place:].rstrip("\n")] if place < len(text) else []
    return "".join(f"{each}\n" for each in found).encode("utf-8", "surrogateescape")


# An expression finds it in half the time that `in` takes.
MARKED_LINE = re.compile(b"\n" + MARK)
# Every escape of JSON: a whole surrogate pair, a half of one (the group), or another.
ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def has_halves(content: bytes) -> bool:
    r"""Return whether JSON holds half of a surrogate pair, such as \ud83d alone; DuckDB reads no line with one."""
    return HALF.search(content) is not None and any(escape[1] for escape in ESCAPE.finditer(content))


def is_sound(content: bytes) -> bool:
    """Return whether DuckDB reads all objects in some whole lines, as far as `mended` could help."""
    if content.startswith(MARK) or is_joined(content):
        return False
    # Of many lines, few hold anything that could be a half.
    return HALF.search(content) is None or not any(map(has_halves, BytesIO(content)))


def is_joined(content: bytes) -> bool:
    """Return whether whole lines may hold a mark or two objects as `parted` parts them."""
    return ADJACENT.search(content) is not None or MARKED_LINE.search(content) is not None


def mended(content: bytes) -> bytes:
    """Return whole lines as `parted` parts them, and with U+FFFD for each half of a surrogate pair."""
    if content.startswith(MARK) or is_joined(content):
        content = b"".join(map(parted, BytesIO(content)))
    return _with_whole_signs(content)


def _with_whole_signs(content: bytes) -> bytes:
    return ESCAPE.sub(_whole, content) if HALF.search(content) else content


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] is None else rb"\ufffd"
