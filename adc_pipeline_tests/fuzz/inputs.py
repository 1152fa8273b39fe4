"""Hypothesis strategies for hostile corpora: a small valid corpus of some format, with bytes or values changed."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import strategies as st

from adc_pipeline_tests.trees import NASTY_TEXTS

Record = dict[str, Any]

# Values in place of another, of each type that JSON has and of the kinds that have broken readers.
VALUES: list[Any] = [
    None, True, 0, -1, 1e300, 2**63, -(2**63) - 1, 2**200, float("nan"), float("inf"), "", "0", "nan", "t1_", "t3_x",
    [], [[]], {}, {"a": 1}, "\0", "\ud800", "2018-02-30", "1e99", "x" * 70_000, "c0", "c0r1", *NASTY_TEXTS,
]  # fmt: skip
# Bytes to insert.
PIECES = [
    b"\0", b"\n", b"\r\n", b"\r", b'"', b"'", b",", b";", b"\t", b"{", b"}", b"[", b"]", b"\\", b"\\u0000", b"\\ud800",
    b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b]0;x\x07", b"<rejected>", b"<accepted>", b"-1", b"1e999",
    b"[" * 20_000, b'{"a":' * 5_000, b"9" * 5_000, b"null", b"NaN", b"&#0;", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;",
]  # fmt: skip
CONVERSATIONS, REPLIES = 4, 3
# Reddit's prefix of the id of a comment, and of a post.
KINDS = ("t1", "t3")


@dataclass(frozen=True)
class Input:
    """The files of a corpus, by path below its folder; `named` is what the setting `corpus` names there."""

    kind: str
    files: dict[str, bytes]
    named: str
    format: str = "auto"

    def write(self, folder: Path) -> Path:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.named


def utterances() -> list[Record]:
    """Return plain records: each conversation has replies to its root, and one reply to the first of them."""
    rows: list[Record] = []
    for c in range(CONVERSATIONS):
        rows.append({"id": f"c{c}", "conversation_id": f"c{c}", "reply_to": None, "text": f"Which kettle, {c}?"})
        for r in range(REPLIES):
            rows.append({"id": f"c{c}r{r}", "conversation_id": f"c{c}", "reply_to": f"c{c}", "text": f"Shelf {r}."})
        rows.append({"id": f"c{c}d", "conversation_id": f"c{c}", "reply_to": f"c{c}r0", "text": "Thank you."})
    return [
        {**row, "speaker": f"s{n % 3}", "score": n % 5, "timestamp": 1_600_000_000 + n} for n, row in enumerate(rows)
    ]


def json_lines(records: list[Record]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def convokit(rows: list[Record]) -> dict[str, bytes]:
    lines = [
        {"meta": {"score": row.pop("score", None)}, "reply-to": row.pop("reply_to", None), **row}
        for row in map(dict, rows)
    ]
    entries = {f"c{c}": {"meta": {"title": f"Kettle {c}"}} for c in range(CONVERSATIONS)}
    return {
        "utterances.jsonl": json_lines(lines),
        "conversations.json": json.dumps(entries).encode(),
        "speakers.json": b"{}",
        "corpus.json": b"{}",
        "index.json": b"{}",
    }


def comments(rows: list[Record]) -> bytes:
    return json_lines(
        [
            {
                "id": row.get("id"), "link_id": f"t3_{row.get('conversation_id')}", "body": row.get("text"),
                "parent_id": f"{KINDS[row.get('reply_to') == row.get('conversation_id')]}_{row.get('reply_to')}",
                "author": row.get("speaker"), "score": row.get("score"), "created_utc": row.get("timestamp"),
                "subreddit": "kettles",
            }
            for row in rows
            if row.get("reply_to") is not None
        ]
    )  # fmt: skip


def submissions(rows: list[Record]) -> bytes:
    return json_lines(
        [
            {
                "id": row.get("id"), "title": "Kettle", "selftext": row.get("text"), "author": row.get("speaker"),
                "score": row.get("score"), "created_utc": row.get("timestamp"), "subreddit": "kettles",
            }
            for row in rows
            if row.get("reply_to") is None
        ]
    )  # fmt: skip


def delimited(rows: list[Record], separator: str) -> bytes:
    import csv

    file = io.StringIO()
    writer = csv.DictWriter(file, list(utterances()[0]), delimiter=separator, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode(errors="surrogatepass")


def parquet(rows: list[Record]) -> bytes:
    """Return a Parquet file; values that its columns cannot hold make a column of JSON text."""
    columns: dict[str, Any] = {}
    for name in utterances()[0]:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError):
            columns[name] = pa.array([json.dumps(value) for value in values])
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def nested(rows: list[Record]) -> bytes:
    """Return OpenAssistant's trees."""

    def message(row: Record, place: int) -> Record:
        below = [
            message(each, number)
            for number, each in enumerate(rows)
            if number > place and each.get("reply_to") == row.get("id")
        ]
        return {
            "message_id": row.get("id"), "parent_id": row.get("reply_to"), "text": row.get("text"), "role": "prompter",
            "rank": row.get("score"), "replies": below, "created_date": "2023-01-01T00:00:00+00:00",
        }  # fmt: skip

    trees = [(number, row) for number, row in enumerate(rows) if row.get("reply_to") is None]
    return json_lines([{"message_tree_id": row.get("id"), "prompt": message(row, n)} for n, row in trees])


def xml(rows: list[Record]) -> bytes:
    from xml.sax.saxutils import quoteattr

    lines = []
    for n, row in enumerate(rows):
        root = row.get("reply_to") is None
        parent = "" if root else f' ParentId="{n // 5 * 5}"'
        text = quoteattr(str(row.get("text")).encode(errors="replace").decode())
        lines.append(
            f'  <row Id="{n}" PostTypeId="{1 if root else 2}"{parent} Body={text} Score="{row.get("score")}"'
            f' CreationDate="2020-01-01T00:00:00.000" OwnerUserId="{n % 3}" Title="Kettle" />'
        )
    return ('<?xml version="1.0"?>\n<posts>\n' + "\n".join(lines) + "\n</posts>\n").encode()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"corpus/{name}", content)
    return file.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"corpus/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
FORMATS = ("convokit", "dump", "csv", "tsv", "parquet", "lines", "nested", "xml", "zip", "tar")


@st.composite
def rows(draw: st.DrawFn) -> list[Record]:
    """Draw records in which up to four values, keys or rows are changed."""
    found = utterances()
    for _ in range(draw(st.integers(0, 4))):
        row = found[draw(st.integers(0, len(found) - 1))]
        name = draw(st.sampled_from(sorted(row) or ["id"]))
        change = draw(st.sampled_from(["value", "value", "value", "all", "delete", "repeat"]))
        if change == "value":
            row[name] = draw(st.sampled_from(VALUES))
        elif change == "all":
            value = draw(st.sampled_from(VALUES))
            for each in found:
                each[name] = value
        elif change == "delete":
            row.pop(name, None)
        else:
            found.insert(draw(st.integers(0, len(found))), dict(row))
    return found


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a file with up to two changes of its bytes, mostly none."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        change = draw(st.sampled_from(["flip", "cut", "insert", "delete", "repeat"]))
        if change == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        elif change == "cut":
            content = content[:at]
        elif change == "insert":
            content = content[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + content[at:]
        else:
            size = draw(st.integers(1, 400))
            rest = content[at + size :] if change == "delete" else content[at:]
            content = content[: at if change == "delete" else at + size] + rest
    return content


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    """Draw a corpus of any format."""
    made, kind = draw(rows()), draw(st.sampled_from(FORMATS))
    wanted = draw(st.sampled_from(["auto"] * 8 + ["convokit", "dump", "table"]))
    extension = draw(st.sampled_from(sorted(PACKINGS)))
    if kind in ("convokit", "zip", "tar"):
        files = convokit(made)
        which = draw(st.sampled_from(sorted(files)))
        files[which] = draw(damaged(files[which]))
        if kind == "convokit":
            return Input(kind, {f"corpus/{name}": content for name, content in files.items()}, "corpus", wanted)
        packed = draw(damaged((zipped if kind == "zip" else tarred)(files)))
        return Input(kind, {f"corpus.{kind}": packed}, f"corpus.{kind}", wanted)
    if kind == "dump":
        pack = PACKINGS[extension]
        posts = draw(damaged(pack(draw(damaged(submissions(made))))))
        replies = draw(damaged(pack(draw(damaged(comments(made))))))
        return Input(
            kind, {f"dumps/RS_2020-01{extension}": posts, f"dumps/RC_2020-01{extension}": replies}, "dumps", wanted
        )
    if kind == "parquet":
        return Input(kind, {"corpus.parquet": draw(damaged(parquet(made)))}, "corpus.parquet", wanted)
    if kind == "xml":
        return Input(kind, {"site/Posts.xml": draw(damaged(xml(made)))}, "site", wanted)
    writers: dict[str, tuple[str, Callable[[list[Record]], bytes]]] = {
        "csv": (".csv", lambda rows: delimited(rows, ",")),
        "tsv": (".tsv", lambda rows: delimited(rows, "\t")),
        "lines": (".jsonl", json_lines),
        "nested": (".jsonl", nested),
    }
    name, write = writers[kind]
    content = draw(damaged(PACKINGS[extension](draw(damaged(write(made))))))
    return Input(kind, {f"corpus{name}{extension}": content}, f"corpus{name}{extension}", wanted)
