"""Reddit's dumps become the same rows as ConvoKit's corpora, and nothing in them stops the reading."""

import bz2
import gzip
import json
import lzma
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening import packings
from adc_pipeline.corpus.readers import dumps, json_lines, lines, progress
from adc_pipeline.corpus.readers.rows import COLUMNS
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.stages import read_utterances

SUBMISSION = {
    "id": "p1", "author": "ann", "title": "Why?", "selftext": "it hums", "subreddit": "fixit", "created_utc": 100,
    "score": 7, "stickied": False, "distinguished": None, "hide_score": False, "edited": 1.5, "gilded": 0,
    "retrieved_on": 900,
}  # fmt: skip
COMMENT = {
    "id": "c1", "link_id": "t3_p1", "parent_id": "t3_p1", "author": "bob", "body": "the fuse", "subreddit": "fixit",
    "created_utc": "101", "score": "3", "score_hidden": True, "stickied": "false", "distinguished": "moderator",
}  # fmt: skip


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def long_window(content: bytes) -> bytes:
    """As the dumps are packed: a window of 2 GiB, and the length of the content not told."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(content) + packer.flush()


def xz(content: bytes) -> bytes:
    # The default would need a dictionary of 8 MB.
    return lzma.compress(content, preset=0)


def lzma_alone(content: bytes) -> bytes:
    """As xz packed before its format of today."""
    return lzma.compress(content, format=lzma.FORMAT_ALONE)


def zst_blocks(content: bytes, rows: int = 100) -> bytes:
    """As Arctic Shift publishes its dumps: blocks of rows, each packed alone."""
    packed, lines = b"", content.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    for start in range(0, len(lines), rows):
        places, data = b"", b""
        for row in lines[start : start + rows]:
            places += struct.pack("<II", len(data), len(row))
            data += row
        block = zstandard.compress(struct.pack("<I", len(places) // 8) + places + data)
        packed += struct.pack("<I", len(block)) + block
    return packed


PACKINGS = [bytes, gzip.compress, long_window, bz2.compress, xz, zst_blocks]


def read(path: Path, unpack: bool = False) -> list[dict[str, Any]]:
    found: list[tuple[Any, ...]] = []
    with duckdb.connect() as connection:
        create_macros(connection)
        for rows in dumps.rows(path, connection, path.parent / "scratch", unpack=unpack):
            result = connection.execute(rows.sql, rows.parameters)
            assert [column[0] for column in result.description] == list(COLUMNS)
            assert [str(column[1]) for column in result.description] == list(COLUMNS.values())
            found += result.fetchall()
    assert list((path.parent / "scratch").glob("*")) == []
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


@pytest.mark.fast_first
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, long_window, zstandard.compress, bz2.compress, lzma.compress, lzma_alone, zst_blocks]
)
def test_submissions_and_comments_are_rows_of_one_shape(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "dump"
    path.write_bytes(pack(line(SUBMISSION) + line(COMMENT)))
    assert [list(row.values()) for row in read(path)] == [
        ["p1", "p1", None, "ann", "it hums", 100, 7, False, False, None, "Why?", "fixit", 900, "t3_", None, None],
        [
            "c1",
            "p1",
            "p1",
            "bob",
            "the fuse",
            101,
            3,
            False,
            True,
            "moderator",
            None,
            "fixit",
            None,
            "t1_",
            "t3_",
            None,
        ],
    ]


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("given", "column", "value"),
    [
        ({"parent_id": "t1_c0"}, "reply_to", "c0"),
        ({"parent_id": 41785179015}, "reply_to", "j71teh3"),
        ({"parent_id": None}, "reply_to", "p1"),
        ({"parent_id": "t1_123"}, "reply_to", "123"),
        ({"parent_id": ""}, "reply_to", "p1"),
        ({"link_id": None, "parent_id": "t1_c0"}, "conversation_id", None),
        ({"link_id": None, "parent_id": None}, "conversation_id", None),
        ({"link_id": "p1"}, "conversation_id", "p1"),
        ({"created_utc": 100.0}, "timestamp", 100),
        ({"created_utc": "soon"}, "timestamp", None),
        ({"score": None}, "score", None),
        ({"score": "7.5"}, "score", None),
        ({"score": {"ups": 7}}, "score", None),
        ({"stickied": 1}, "stickied", True),
        ({"stickied": None}, "stickied", None),
        ({"stickied": "perhaps"}, "stickied", None),
        ({"body": "[deleted]"}, "text", "[deleted]"),
        ({"body": "a\x00b"}, "text", "a\x00b"),
        ({"id": "t1_c1"}, "id", "c1"),
        ({"parent_id": "123"}, "reply_to", "123"),
        ({"parent_id": "t1_c1"}, "reply_to", "p1"),
        ({"parent_id": "t3_c1"}, "reply_to", "c1"),
        ({"parent_id": "None"}, "reply_to", "p1"),
        ({"parent_id": 7.5}, "reply_to", "p1"),
        ({"id": None, "name": "t1_c1"}, "id", "c1"),
        ({"parent_id": "t1_c0"}, "parent_kind", "t1_"),
        ({"parent_id": 123}, "parent_kind", "t1_"),
        ({"parent_id": None}, "parent_kind", "t3_"),
        ({"parent_id": "p1"}, "parent_kind", "t3_"),
        ({"parent_id": "c0"}, "parent_kind", "t1_"),
        ({"parent_id": "t1_c1"}, "parent_kind", "t3_"),
        ({"created_utc": "2020-09-13T20:33:32+02:00"}, "timestamp", 1600022012),
        ({"created_utc": 1600022012345}, "timestamp", 1600022012),
        ({"created_utc": "soon"}, "time_unreadable", True),
        ({"created_utc": None}, "time_unreadable", None),
        ({"retrieved_utc": "2020-09-13T20:33:32Z"}, "recorded_at", 1600029212),
        ({"retrieved_on": 1600000001, "_meta": {"retrieved_2nd_on": 1600130000}}, "recorded_at", 1600130000),
        ({"retrieved_on": 0}, "recorded_at", None),
        ({"retrieved_on": 1600000001, "updated_utc": 1600130000}, "recorded_at", 1600130000),
        ({"created_utc": None, "created": 1600022012.0}, "timestamp", 1600022012),
        ({"created_utc": 1600000000, "retrieved_after": 3600}, "recorded_at", 1600003600),
        ({"retrieved_after": 1600000001}, "recorded_at", 1600000001),
    ],
)
def test_odd_values_of_a_comment_are_read_as_meant_or_as_nothing(
    tmp_path: Path, given: dict[str, object], column: str, value: object
) -> None:
    path = tmp_path / "RC"
    path.write_bytes(line(COMMENT | given))
    assert read(path)[0][column] == value


@pytest.mark.parametrize("unpack", [False, True])
def test_every_line_that_cannot_be_read_is_a_row_of_nulls(tmp_path: Path, unpack: bool) -> None:
    path = tmp_path / "RC"
    broken = [b"{bad}", b'"text"', b"[1]", b"null", b'{"id": "\xff"}', b'{"id": "\\ud800"}', b'{"id": "\x00"}']
    path.write_bytes(line(COMMENT) + b"\n".join(broken) + b"\n\n\n" + line(SUBMISSION).rstrip())
    rows = read(path, unpack)
    assert [row["id"] for row in rows] == ["c1", *[None] * len(broken), "p1"]
    assert all(value is None for row in rows[1:-1] for value in row.values())


@pytest.mark.slow
def test_a_line_too_long_for_duckdb_is_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "RC"
    long = line(COMMENT | {"body": "x" * (40 << 20)})
    path.write_bytes(line(COMMENT) + long + line(SUBMISSION))
    with pytest.raises(duckdb.Error) as caught:
        read(path)
    assert "maximum_object_size" in str(caught.value)
    assert [row["id"] for row in read(path, unpack=True)] == ["c1", None, "p1"]
    path.write_bytes(zstandard.compress(long + line(SUBMISSION) + long.rstrip()))
    assert [row["id"] for row in read(path)] == [None, "p1", None]


@pytest.mark.slow
@pytest.mark.parametrize("size", [lines.LINE - 1, lines.LINE])
def test_a_line_of_the_greatest_length_is_read_wherever_it_lies(tmp_path: Path, size: int) -> None:
    path = tmp_path / "RC"
    empty = len(line(COMMENT | {"body": ""}))
    long = line(COMMENT | {"body": "x" * (size - empty)})
    path.write_bytes(line(SUBMISSION) * 99_999 + long + line(SUBMISSION))
    rows = read(path, unpack=True)
    assert [len(rows), len(rows[-2]["text"])] == [100_001, size - empty]


@pytest.mark.fast_first
@pytest.mark.parametrize("cut", [1, 9, 200])
@pytest.mark.parametrize("pack", PACKINGS)
def test_a_dump_cut_off_in_the_middle_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes], cut: int) -> None:
    path = tmp_path / "dump"
    content = b"".join(line(COMMENT | {"id": f"c{number}"}) for number in range(400)).rstrip()
    path.write_bytes(pack(content)[:-cut])
    with pytest.raises(PipelineError, match=r"ends in the middle.* fetch it again"):
        read(path)
    with pytest.raises(PipelineError, match=r"ends in the middle.* fetch it again"):
        read(path, unpack=True)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_a_damaged_dump_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "dump"
    packed = pack(b"".join(line(COMMENT | {"id": f"c{number}"}) for number in range(400)))
    path.write_bytes(packed[:20] + b"\xff" * 30 + packed[50:])
    with pytest.raises(PipelineError, match=r"(is damaged|ends in the middle).*fetch it again"):
        read(path)
    # A second part whose beginning is damaged is data, not what a server added.
    for behind in (packed[:40], b"what is this" * 6000):
        path.write_bytes(packed + behind)
        with pytest.raises(PipelineError, match=r"(is damaged|ends in the middle).*fetch it again"):
            read(path)


@pytest.mark.parametrize("pack", PACKINGS[1:])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_little_behind_packed_data_is_one_row_that_cannot_be_read_and_zeros_are_none(
    tmp_path: Path, pack: Callable[[bytes], bytes], end: bytes
) -> None:
    path, packed = tmp_path / "dump", pack((line(SUBMISSION) + line(COMMENT)).rstrip() + end)
    path.write_bytes(packed + bytes(700))
    assert [row["id"] for row in read(path)] == ["p1", "c1"]
    if pack is not zst_blocks:
        path.write_bytes(packed + bytes(20_000) + b"d41d8cd9 dump\n\n<p>End</p>")
        assert [row["id"] for row in read(path)] == ["p1", "c1", None]


def test_zstd_with_a_dictionary_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    words = zstandard.train_dictionary(2000, [line(COMMENT | {"id": f"c{number}"}) for number in range(1000)])
    path.write_bytes(zstandard.ZstdCompressor(dict_data=words).compress(line(COMMENT)))
    with pytest.raises(PipelineError, match=r"with a dictionary, .* unpack it by `zstd -d -D DICTIONARY`"):
        read(path)


@pytest.mark.parametrize("end", [b"\x1a", b"\n\x1a", b"\r\n\x1a\x1a"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_sign_that_ends_a_text_of_dos_is_no_row(tmp_path: Path, pack: Callable[[bytes], bytes], end: bytes) -> None:
    path = tmp_path / "dump"
    for content in (line(SUBMISSION) + line(COMMENT), line([SUBMISSION, COMMENT])):
        path.write_bytes(pack(content.rstrip() + end))
        assert [row["id"] for row in read(path)] == ["p1", "c1"]


def test_spaces_around_ids_are_no_part_of_them(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(
        line(SUBMISSION | {"id": " p1 "}) + line(COMMENT | {"id": "c1 ", "link_id": "t3_p1 ", "parent_id": " t3_p1 "})
    )
    found = [(row["id"], row["conversation_id"], row["reply_to"], row["parent_kind"]) for row in read(path)]
    assert found == [("p1", "p1", None, None), ("c1", "p1", "p1", "t3_")]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_packed_pieces_one_behind_the_other_are_one_dump(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "dump"
    half = len(line(COMMENT)) // 2
    skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" if pack is zstandard.compress else b""
    path.write_bytes(
        skipped + pack(line(SUBMISSION) + line(COMMENT)[:half]) + pack(b"") + skipped + pack(line(COMMENT)[half:])
    )
    assert [row["id"] for row in read(path)] == ["p1", "c1"]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_lines, "CHUNK", 1 << 20)
    monkeypatch.setattr(packings, "BLOCK", 1 << 16)
    return (1 << 20) + (1 << 16)


@pytest.mark.slow
@pytest.mark.parametrize("pack", PACKINGS)
def test_neither_memory_nor_disk_grow_with_the_file(
    tmp_path: Path, small_chunks: int, pack: Callable[[bytes], bytes]
) -> None:
    path, scratch = tmp_path / "dump", tmp_path / "scratch"
    content = b"".join(line(COMMENT | {"id": f"c{number}"}) for number in range(60_000))
    path.write_bytes(pack(content))
    tracemalloc.start()
    seen = []
    for chunk in json_lines.chunks(path, scratch):
        lying = list(scratch.glob("lines-*/*"))
        assert len(lying) <= 2
        assert chunk.stat().st_size <= small_chunks
        assert chunk.read_bytes().endswith(b"\n")
        seen.append(chunk.stat().st_size)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20 < len(content)
    tracemalloc.stop()
    assert len(seen) > 5
    assert sum(seen) == len(content)


def test_a_reading_given_up_leaves_nothing_behind(tmp_path: Path, small_chunks: int) -> None:
    path = tmp_path / "dump"
    path.write_bytes(line(COMMENT) * 30_000)
    chunks = json_lines.chunks(path, tmp_path / "scratch")
    next(chunks)
    chunks.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_long_reading_says_how_far_it_is(tmp_path: Path, small_chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0)
    path = tmp_path / "RC_2018-09"
    path.write_bytes(line(COMMENT) * 30_000)
    said: list[str] = []
    list(json_lines.chunks(path, tmp_path / "scratch", said.append))
    assert said[-1] == f"RC_2018-09: {path.stat().st_size / 1e6:.0f} of {path.stat().st_size / 1e6:.0f} MB read"


def test_a_post_may_have_empty_fields_of_comments(tmp_path: Path) -> None:
    post = SUBMISSION | {"link_id": "", "parent_id": "", "body": ""}
    (tmp_path / "dump.jsonl").write_bytes(line(post) + line(COMMENT | {"title": "", "selftext": ""}))
    counts = write_utterances(tmp_path / "dump.jsonl", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert (counts["roots"], counts["taking_part"]) == (1, 2)
    ((title,),) = read_utterances(tmp_path / "out", "title", "is_root")
    assert title == SUBMISSION["title"]


def test_a_post_may_have_its_text_in_the_field_of_a_comment(tmp_path: Path) -> None:
    """As people who name columns themselves have it; what names a post or a parent is a comment."""
    post = {name: value for name, value in SUBMISSION.items() if name != "selftext"}
    (tmp_path / "posts").write_bytes(
        line(SUBMISSION) + line(post | {"id": "p2", "body": "it hums, too"}) + line(COMMENT)
    )
    write_utterances(tmp_path / "posts", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert sorted(read_utterances(tmp_path / "out", "id, text, title, is_root")) == [
        ("c1", "the fuse", None, False), ("p1", "it hums", "Why?", True), ("p2", "it hums, too", "Why?", True),
    ]  # fmt: skip


def test_votes_stand_for_a_score_that_is_missing(tmp_path: Path) -> None:
    comment = {name: value for name, value in COMMENT.items() if name != "score"}
    (tmp_path / "dump").write_bytes(line(SUBMISSION | {"ups": 9}) + line(comment | {"ups": 5, "downs": 0}))
    write_utterances(tmp_path / "dump", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert sorted(read_utterances(tmp_path / "out", "id, score")) == [("c1", 5), ("p1", 7)]


def test_marks_as_programs_write_them_beside_missing_values(tmp_path: Path) -> None:
    marks = {"stickied": 0.0, "score_hidden": "1.0", "distinguished": "None"}
    (tmp_path / "dump").write_bytes(line(SUBMISSION) + line(COMMENT | marks))
    write_utterances(tmp_path / "dump", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert read_utterances(tmp_path / "out", "stickied, score_hidden, distinguished")[1] == (False, True, None)
