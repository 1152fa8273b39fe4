"""A table's columns become an utterance's, and a row that does not fit is counted, not dropped."""

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers import convokit, dumps, tables
from adc_pipeline.corpus.readers.rows import COLUMNS, MACROS
from adc_pipeline.corpus.sample import write_sample

HEADER = "id,conversation_id,reply_to,text,score,timestamp,speaker\n"
EMPTY = dict.fromkeys(COLUMNS)


def read(path: Path, columns: dict[str, str] | None = None, said: list[str] | None = None) -> list[dict[str, Any]]:
    found: list[tuple[Any, ...]] = []
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        for rows in tables.rows(path, columns or {}, connection, (said if said is not None else []).append):
            result = connection.execute(rows.sql, rows.parameters)
            assert [(column[0], str(column[1])) for column in result.description] == list(COLUMNS.items())
            found += result.fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def parquet(path: Path, **columns: Any) -> Path:
    needed: dict[str, list[Any]] = {name: ["a"] for name in tables.NEEDED}
    pq.write_table(pa.table(needed | columns), path)
    return path


def test_a_csv_file_is_read_strictly_and_what_does_not_fit_is_a_row_of_nulls(tmp_path: Path) -> None:
    path, said = tmp_path / "some.csv", list[str]()
    path.write_bytes(
        HEADER.encode() + b'a,a,,"hi, there",1,5,ann\nb,a,a,"two\nlines",x,2020-01-01 00:00:00,bob\nbad,row\n'
        b'c,a,a,"a ""quote""",3,7,cid,and,more\nd,a,b,\xff\xfe,3,7,dan\ne,a,b,nul\x00,3.0,7.9,"ev"\n'
        b'f,a,b,"open,3,7,fay\n'
    )
    rows = read(path, said=said)
    assert rows == [
        EMPTY | {"id": "a", "conversation_id": "a", "text": "hi, there", "score": 1, "timestamp": 5, "speaker": "ann"},
        EMPTY | {"id": "b", "conversation_id": "a", "reply_to": "a", "text": "two\nlines", "timestamp": 1577836800,
                 "speaker": "bob"},
        EMPTY | {"id": "e", "conversation_id": "a", "reply_to": "b", "text": "nul\x00", "score": 3, "timestamp": 7,
                 "speaker": "ev"},
        *[EMPTY] * 4,
    ]  # fmt: skip
    assert said == ["4 lines of some.csv could not be read and are set aside as malformed"]


def test_what_an_open_quote_swallows_is_counted_line_by_line(tmp_path: Path) -> None:
    path, row = tmp_path / "some.csv", "a,a,,hi,1,5,ann\n"
    path.write_text(
        HEADER + row * 10 + 'b,a,a,"open,1,5,bob\n' + row * 1000 + 'c,a,a,"closed",1,5,cid\n' + row * 5 + "z"
    )
    rows = read(path)
    assert [len(rows), sum(r["id"] is None for r in rows)] == [10 + 1 + 1000 + 1 + 5 + 1, 1003]


def test_a_row_longer_than_duckdb_reads_is_counted(tmp_path: Path) -> None:
    path, row = tmp_path / "some.csv", "a,a,,hi,1,5,ann\n"
    path.write_text(HEADER + row * 10 + 'b,a,a,"' + "x" * tables.BUFFER + '",1,5,bob\n' + row * 5)
    assert [r["id"] for r in read(path)] == ["a"] * 15 + [None]


@pytest.mark.parametrize(("separator", "newline"), [(",", "\r\n"), (";", "\n"), ("\t", "\n"), ("|", "\n")])
def test_every_usual_separator_is_understood(tmp_path: Path, separator: str, newline: str) -> None:
    path = tmp_path / "some.csv"
    text = (HEADER + "a,a,,hi,1,5,ann\nb,a,a,yes,2,6,bob\n").replace(",", separator).replace("\n", newline)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(row["id"], row["speaker"], row["score"]) for row in read(path)] == [("a", "ann", 1), ("b", "bob", 2)]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(path)) == 2


@pytest.mark.slow
def test_the_order_of_a_long_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(HEADER + "".join(f'i{n},r,a,"a text, and\nmore of it",1,5,ann\n' for n in range(200_000)))
    assert [row["id"] for row in read(path)] == [f"i{n}" for n in range(200_000)]


def test_columns_are_mapped_and_the_optional_ones_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "table"
    odd = 'the "body"; DROP TABLE x'
    pq.write_table(pa.table({"id": ["a"], "conversation_id": ["a"], "to": ["r"], odd: ["hi"], "ups": [3]}), path)
    assert read(path, {"text": odd, "reply_to": "to", "score": "ups"}) == [
        EMPTY | {"id": "a", "conversation_id": "a", "reply_to": "r", "text": "hi", "score": 3}
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "has no column reply_to, score but id, conversation_id, text"),
        ({"reply_to": "id", "score": "points"}, "has no column points but"),
        ({"reply_to": "id", "score": "id", "speaker": "who"}, "has no column who but"),
        ({"body": "text"}, "maps body, which no utterance has"),
    ],
)
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, columns: dict[str, str], sentence: str) -> None:
    pq.write_table(pa.table({name: ["a"] for name in ("id", "conversation_id", "text")}), tmp_path / "some.parquet")
    (tmp_path / "some.csv").write_text("id,conversation_id,text\na,a,b\n")
    for name in ("some.parquet", "some.csv"):
        with pytest.raises(PipelineError, match=sentence):
            read(tmp_path / name, columns)
        with pytest.raises(PipelineError, match=sentence):
            tables.check_columns(tmp_path / name, columns)


@pytest.mark.parametrize(
    ("column", "given", "value"),
    [
        ("timestamp", pa.array([datetime(2020, 1, 1, tzinfo=UTC)]), 1577836800),
        ("timestamp", pa.array([datetime(2020, 1, 1)]), 1577836800),
        ("timestamp", pa.array([datetime(2020, 1, 1).date()]), 1577836800),
        ("timestamp", pa.array(["2020-01-01T00:00:00.5"]), 1577836800),
        ("timestamp", pa.array(["infinity"]), None),
        ("timestamp", pa.array([1577836800.25]), 1577836800),
        ("score", pa.array([7.0]), 7),
        ("score", pa.array([7.5]), None),
        ("score", pa.array([float("nan")]), None),
        ("score", pa.array([True]), None),
        ("id", pa.array([7]), "7"),
        ("reply_to", pa.array([7.0]), "7"),
        ("reply_to", pa.array([None], pa.null()), None),
        ("reply_to", pa.array([""]), None),
        ("text", pa.array([b"caf\xc3\xa9"]), "café"),
        ("text", pa.array([b"\xff"]), None),
        ("stickied", pa.array([1]), True),
    ],
)
def test_a_column_may_have_any_sensible_type(tmp_path: Path, column: str, given: pa.Array, value: object) -> None:
    assert read(parquet(tmp_path / "table", **{column: given}))[0][column] == value


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "table")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PipelineError, match="no whole Parquet file"):
        read(path)


@pytest.mark.parametrize(
    ("header", "sentence"), [(b"text", "no header of a CSV"), (b"id,text,ID", "two columns of one name")]
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes, sentence: str) -> None:
    (tmp_path / "some.csv").write_bytes(header + b"\n1,2,3\n")
    with pytest.raises(PipelineError, match=sentence):
        read(tmp_path / "some.csv")


def test_the_same_conversations_are_the_same_rows_whichever_way_they_come(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_sample(corpus, conversations=60)
    utterances = [json.loads(line) for line in (corpus / "utterances.jsonl").read_text().splitlines()]

    def as_dump(u: dict[str, Any]) -> dict[str, Any]:
        parent = u["reply_to"]
        root = parent is None
        own = {"selftext": u["text"], "title": "?"} if root else {
            "body": u["text"], "link_id": "t3_" + u["conversation_id"],
            "parent_id": ("t3_" if parent == u["conversation_id"] else "t1_") + parent,
        }  # fmt: skip
        return u["meta"] | {"id": u["id"], "author": u["speaker"], "created_utc": u["timestamp"]} | own

    def as_record(u: dict[str, Any]) -> dict[str, Any]:
        flat = {name: u.get(name) for name in ("id", "conversation_id", "speaker", "text", "timestamp")}
        meta = {name: u["meta"].get(name) for name in ("score", "stickied", "score_hidden", "distinguished")}
        return flat | meta | {"parent": u["reply_to"], "source": u["meta"]["subreddit"]}

    (tmp_path / "dump").write_text("".join(json.dumps(as_dump(u)) + "\n" for u in utterances))
    records = [as_record(u) for u in utterances]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "table")
    with (tmp_path / "csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)

    with duckdb.connect() as connection:
        connection.execute(MACROS)
        (lines,) = convokit.rows(corpus, tmp_path)
        ways = [connection.execute(lines.sql, lines.parameters).fetchall()]
        for dump in dumps.rows(tmp_path / "dump", connection, tmp_path):
            ways.append(connection.execute(dump.sql, dump.parameters).fetchall())
    # Only in ConvoKit's corpora the titles lie elsewhere.
    title = list(COLUMNS).index("title")
    ways += [
        [tuple(row.values()) for row in read(tmp_path / name, {"reply_to": "parent"})] for name in ("table", "csv")
    ]
    first, *others = ([(*row[:title], *row[title + 1 :]) for row in way] for way in ways)
    assert len(first) == len(utterances)
    assert others[:2] == [first, first]
    # CSV cannot tell an empty text from none.
    text = list(COLUMNS).index("text")
    assert others[2] == [(*row[:text], row[text] or None, *row[text + 1 :]) for row in first]
