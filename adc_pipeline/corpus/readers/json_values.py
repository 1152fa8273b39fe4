"""JSON that is not one object a line: an array, objects over several lines, or the answer of an interface.

Its values are decoded one behind the other, and each becomes a line. Memory holds a block and one value.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.packings import BLOCK, blocks, cut_off
from adc_pipeline.corpus.readers.lines import LINE, UNREADABLE_LINE, is_begun

# The most characters of a JSON value beyond `LINE` whose end is looked for.
OVERLONG = 8 * LINE
# Keys that hold the records in an answer of a public interface, and those that may stand beside them.
ENVELOPES = (
    *("data", "posts", "comments", "latest_posts", "items", "results", "submissions", "hits", "entries"),
    *("rows", "records", "utterances", "response", "docs", "documents", "value", "objects", "messages"),
)
BESIDE = re.compile(r"(?i)_?(metadata|meta|kind|etag|(next|prev)page_?token"
                    r"|errors?|has_?more|quota\w*|backoff|(next|prev|previous)(_?page)?|page\w*"
                    r"|\w*cursor|(total_?)?(count|results)|total|status|success|ok|offset|limit|links?"
                    r"|schema|columns|database|table|truncated|code|@odata\.\w+|start|num_?found\w*|max_?score"
                    r"|nb\w+|hits\w+|rows\w*|statistics"
                    r"|exhaustive\w*|query\w*|params|processing\w+|server\w+|rendering\w*)")  # fmt: skip
# What may stand beside the messages of a chat, too. A forum's thread may have these keys beside its replies.
BESIDE_MESSAGES = re.compile(r"name|type|id|about|guild|channel|dateRange|exportedAt|messageCount")
# Such an answer up to its first record, with simple values and a list of columns before the records.
TEXT = r'"(?:[^"\\]|\\.)*"'
SIMPLE = rf"{TEXT}\s*:\s*(?:null|true|false|-?[\d.eE+-]+|{TEXT}|\{{[^{{}}\[\]]*\}}|\[\s*\])"
BEFORE = rf'(?:{SIMPLE}|"(?:meta|schema|columns)"\s*:\s*\[[^\[\]]*\])\s*,\s*'
OPEN_ENVELOPE = re.compile(
    rf'\s*\{{\s*(?P<before>(?:{BEFORE})*?)"(?P<key>{"|".join(ENVELOPES)})"\s*:\s*\[\s*\{{', re.DOTALL
)
INNER = re.compile(r"\{[^{}]*\}")
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')
# The first line of an object that is spread over lines, or that is followed by a comma or, in an old file of macOS, by
# the next object.
OPEN_LINE = re.compile(rb'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:\s*[\[{]?\s*)?|.*\}\s*,\s*|.*\}\r+\{.*', re.DOTALL)
ADJACENT = re.compile(rb"\}(?:[ \t]|\xef\xbb\xbf)*\{")
BETWEEN, INSIDE = re.compile(r"[\s,\[\]\x1e\ufeff]*"), re.compile(r"[\s,]*")
LINE_END = re.compile(r"[\r\n]")
# What stands for bytes that are no UTF-8.
UNDECODED = re.compile("[\udc80-\udcff]")


def envelope(first: bytes) -> str:
    """Return the key of the records where JSON begins with an answer of an interface, such as {"data": [{...}]}."""
    if not first.lstrip().startswith(b"{"):
        return ""
    text = first.decode(errors="replace").lstrip()
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        # It goes on behind these bytes.
        long = len(first) >= BLOCK
        return next((key for key in ENVELOPES if long and open_envelope(text, key)), "")
    keys = [key for key in ENVELOPES if isinstance(found.get(key), list)]
    others = set(found) - set(keys)
    if len(keys) != 1 or not all(isinstance(record, dict) for record in found[keys[0]]) or not found[keys[0]]:
        return ""
    return keys[0] if may_stand_beside(keys[0], others) else ""


def may_stand_beside(key: str, others: Iterable[str]) -> bool:
    """Return whether all of some keys may stand beside the one that holds the records of an answer."""
    return all(BESIDE.fullmatch(name) or (key == "messages" and BESIDE_MESSAGES.fullmatch(name)) for name in others)


def is_spread(first: bytes) -> bool:
    """Return whether JSON that begins with these bytes is not one object a line, but an array or spread over lines.

    The first line that is no whole object decides, where it is followed by another.
    """
    begin = first.lstrip()
    if begin[:1] in (b"[", b"\x1e"):
        return True
    line, newline, _ = begin.partition(b"\n")
    if begin[:1] != b"{":
        return False
    open_line = (bool(newline) or b"}\r" in line) and OPEN_LINE.fullmatch(line) is not None
    return open_line or is_followed_by_another(line)


def is_followed_by_another(line: bytes) -> bool:
    """Return whether a line has an object and, right behind it, another one."""
    # A text may hold such signs, too.
    if not ADJACENT.search(line):
        return False
    text = line.decode(errors="replace")
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip(" \t\ufeff").startswith("{")


def objects(file: BinaryIO, path: Path, key: str = "") -> Iterator[bytes]:
    """Yield the JSON values of a file, be they in an array or one behind the other, each as a line.

    With `key`, each of these is an answer of an interface, and the records are those that it holds under this key, or
    under another one of `ENVELOPES` where it has none under this.
    Memory holds a block and one value. What is no JSON is `UNREADABLE_LINE`, up to the end of its line. Raise
    PipelineError for a file that ends in the middle of a value, an array or an answer, and for one of a single line
    that is no JSON from one of its records on.
    """
    decode = json.JSONDecoder(strict=False).raw_decode
    unpack = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    unpacked = blocks(file, path)
    text, place, ended, depth, sound, where, number = "", 0, False, 0, True, "outside", 0
    while True:
        skipped = (INSIDE if where == "inside" else BETWEEN).match(text, place)
        place = skipped.end()  # type: ignore[union-attr]
        depth += skipped[0].count("[") - skipped[0].count("]")  # type: ignore[index]
        if where == "inside" and text.startswith("]", place) and (ended or text[place + 1 :].strip()):
            # What stands behind the records is read as an object of its own.
            text, place, where = "{" + text[place + 1 :].lstrip().removeprefix(","), 0, "behind"
        elif where == "outside" and key and (begin := open_envelope(text[place : place + BLOCK], key)):
            place, where = place + begin, "inside"
            continue
        found, end = None, place
        with suppress(ValueError, RecursionError):
            found, end = decode(text, place) if place < len(text) else (None, place)
        # A number may go on in the next block.
        if end > place and (end < len(text) or ended or isinstance(found, dict)):
            value = text[place:end]
            if where == "outside" and key:
                # Posts and comments may come as answers of their own.
                listed = [found.get(name) for name in (key, *ENVELOPES)] if isinstance(found, dict) else []
                inside = next((value for value in listed if isinstance(value, list)), None)
                values = apart(value, inside) if isinstance(inside, list) else ["null"]
            else:
                values = [] if where == "behind" else [on_one_line(value, found)]
            number += len(values)
            for value in values:
                line = value.encode("utf-8", "surrogateescape") + b"\n"
                yield line if len(line) <= LINE else UNREADABLE_LINE
            place, where = end, "outside" if where == "behind" else where
        elif not ended and (len(text) - place <= LINE or may_end(text, place)):
            # Twice as much at a time, since a value that is not complete is decoded again.
            wanted, more = max(BLOCK, len(text) - place), []
            while wanted > 0 and not ended:
                block = next(unpacked, b"")
                ended = not block
                more.append(unpack.decode(block, ended))
                wanted -= len(block)
            text, place = text[place:] + "".join(more), 0
        elif place == len(text):
            if sound and (where != "outside" or depth > 0):
                raise cut_off(path)
            return
        elif ended and "\n" not in text[place:].rstrip() and (not sound or is_begun(text[place:])):
            raise cut_off(path)
        elif ended and "\n" not in text[place:].rstrip() and "{" in text[place + 1 :]:
            raise PipelineError(
                f"{path.resolve()}, which the setting corpus names, holds what is no JSON where its record {number + 1}"
                " should be, and other records behind it on the same line: correct it, or write one record a line."
            )
        else:
            yield UNREADABLE_LINE
            sound = False
            next_line = text.find("\n", place) + 1
            place = next_line or len(text)


def on_one_line(value: str, found: Any) -> str:
    """Return a JSON value, which was decoded as `found`, as a line without its end.

    Bytes that are no UTF-8 stay as they are, so that the line is none that can be read.
    """
    if not LINE_END.search(value):
        return value
    return LINE_END.sub(" ", value) if UNDECODED.search(value) else json.dumps(found)


def apart(value: str, records: Sequence[Any]) -> list[str]:
    """Return the records of an answer, each as JSON on a line; null for one with bytes that are no UTF-8."""
    if not UNDECODED.search(value):
        return list(map(json.dumps, records))
    written = (json.dumps(record, ensure_ascii=False) for record in records)
    return ["null" if UNDECODED.search(each) else json.dumps(json.loads(each)) for each in written]


def open_envelope(text: str, key: str) -> int:
    """Return where the first record stands in a text that begins with an answer of an interface; 0 if it does not."""
    opened = OPEN_ENVELOPE.match(text)
    beside: list[str] = NAME.findall(INNER.sub("", opened["before"])) if opened else []
    return opened.end() - 1 if opened and opened["key"] == key and may_stand_beside(key, beside) else 0


def may_end(text: str, place: int) -> bool:
    """Return whether to look for the end of an overlong value, since no line end follows it to go on from."""
    return len(text) - place <= OVERLONG and text.find("\n", place) < 0
