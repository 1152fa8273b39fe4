"""Whole lines out of a long JSON-lines file, compressed or not, in plain files of a bounded size.

DuckDB parses JSON on every core, but it cannot read the long windows of Reddit's dumps, and it stops at a
line beyond its limit. So a file is unpacked here into pieces of about 256 MiB, one being written while
DuckDB reads the one before: two lie on disk at most, and memory holds one line and a few blocks whatever the
file's length.
"""

import codecs
import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, BinaryIO

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.packings import BLOCK, END_OF_TEXT, MARK, blocks, cut_off, packing_of
from adc_pipeline.corpus.readers.progress import Progress
from adc_pipeline.corpus.readers.rows import FILE_NUMBER
from adc_pipeline.corpus.remote import RemoteFile

MIB = 1 << 20
CHUNK = 256 * MIB
# What DuckDB promises to read (its maximum_object_size). Beyond it, a line's place in the file decides.
LINE = 16 * MIB
# The most characters of a JSON value beyond `LINE` whose end is looked for.
OVERLONG = 8 * LINE
# DuckDB reads this as a row from which nothing could be read.
UNREADABLE_LINE = b"null\n"
NEWLINE = ord("\n")


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


# Keys that hold the records in an answer of a public interface, and those that may stand beside them.
ENVELOPES = (
    *("data", "posts", "comments", "latest_posts", "items", "results", "submissions", "hits", "entries"),
    *("rows", "records", "utterances", "response", "docs", "documents", "value", "objects"),
)
BESIDE = re.compile(r"(?i)_?(metadata|meta|errors?|has_?more|quota\w*|backoff|(next|prev|previous)(_?page)?|page\w*"
                    r"|\w*cursor|(total_?)?(count|results)|total|status|success|ok|offset|limit|links?"
                    r"|schema|columns|database|table|truncated|code|@odata\.\w+|start|num_?found\w*|max_?score"
                    r"|nb\w+|hits\w+|exhaustive\w*|query\w*|params|processing\w+|server\w+|rendering\w*)")  # fmt: skip
# Such an answer up to its first record, with simple values before the records.
TEXT = r'"(?:[^"\\]|\\.)*"'
BEFORE = rf"{TEXT}\s*:\s*(?:null|true|false|-?[\d.eE+-]+|{TEXT}|\{{[^{{}}\[\]]*\}}|\[\s*\])\s*,\s*"
OPEN_ENVELOPE = re.compile(
    rf'\s*\{{\s*(?P<before>(?:{BEFORE})*?)"(?P<key>{"|".join(ENVELOPES)})"\s*:\s*\[\s*\{{', re.DOTALL
)
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


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
    return keys[0] if all(map(BESIDE.fullmatch, others)) else ""


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


# The first line of an object that is spread over lines, or that is followed by a comma or, in an old file of macOS, by
# the next object.
OPEN_LINE = re.compile(rb'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:\s*[\[{]?\s*)?|.*\}\s*,\s*|.*\}\r+\{.*', re.DOTALL)
ADJACENT = re.compile(rb"\}(?:[ \t]|\xef\xbb\xbf)*\{")
# An expression finds it in half the time that `in` takes.
MARKED_LINE = re.compile(b"\n" + MARK)
BETWEEN, INSIDE = re.compile(r"[\s,\[\]\x1e\ufeff]*"), re.compile(r"[\s,]*")

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


LINE_END = re.compile(r"[\r\n]")
# What stands for bytes that are no UTF-8.
UNDECODED = re.compile("[\udc80-\udcff]")


def objects(file: BinaryIO, path: Path, key: str = "") -> Iterator[bytes]:
    """Yield the JSON values of a file, be they in an array or one behind the other, each as a line.

    With `key`, each of these is an answer of an interface, and the records are those that it holds under this key, or
    under another one of `ENVELOPES` where it has none under this.
    Memory holds a block and one value. What is no JSON is `UNREADABLE_LINE`, up to the end of its line. Raise
    PipelineError for a file that ends in the middle of a value, an array or an answer.
    """
    decode = json.JSONDecoder(strict=False).raw_decode
    unpack = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    unpacked = blocks(file, path)
    text, place, ended, depth, sound, where = "", 0, False, 0, True, "outside"
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
        elif ended and (
            (where != "outside" or depth > 0) and sound if place == len(text) else "\n" not in text[place:].rstrip()
        ):
            raise cut_off(path)
        elif place == len(text):
            return
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
    beside: list[str] = NAME.findall(opened["before"]) if opened else []
    return opened.end() - 1 if opened and opened["key"] == key and all(map(BESIDE.fullmatch, beside)) else 0


def may_end(text: str, place: int) -> bool:
    """Return whether to look for the end of an overlong value, since no line end follows it to go on from."""
    return len(text) - place <= OVERLONG and text.find("\n", place) < 0


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


def mended_json_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as `json_lines` does, mended."""
    return map(mended, json_lines(file, path))


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] is None else rb"\ufffd"


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
    if not last.strip(b" \t\r"):
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

    content = bytearray(MIB)
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
