"""JSON that is not one object a line: arrays, objects over several lines, commas between lines."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers import json_lines, json_values, mended_json, small_files
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.corpus.test_dumps import COMMENT, SUBMISSION
from adc_pipeline_tests.corpus.test_keys import parents, read_corpus
from adc_pipeline_tests.stages import read_utterances

RECORDS = [
    SUBMISSION,
    COMMENT,
    COMMENT | {"id": "c2", "body": "two\nlines, é"},
    COMMENT | {"id": "c3", "body": 'brackets ]},\\"{['},
]
WRITTEN: dict[str, Callable[[Sequence[Any]], str]] = {
    "array on one line": json.dumps,
    "array, an object a line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "pretty array": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "pretty objects": lambda rows: "\n".join(json.dumps(row, indent=4) for row in rows),
    "commas between lines": lambda rows: ",\n".join(map(json.dumps, rows)) + ",\n",
    "record separators": lambda rows: "".join(f"\x1e{json.dumps(row)}\n" for row in rows),
    "lines that end with carriage returns": lambda rows: "\r".join(map(json.dumps, rows)) + "\r",
    "a key twice": lambda rows: "".join('{"score": 0, "author": 0, ' + json.dumps(row)[1:] + "\n" for row in rows),
    "a key twice, in an array": lambda rows: (
        "[" + ", ".join('{"score": 0, "author": 0, ' + json.dumps(row)[1:] for row in rows) + "]"
    ),
    "one behind the other": lambda rows: "".join(map(json.dumps, rows)),
    "one behind the other, with spaces": lambda rows: " ".join(map(json.dumps, rows)) + "\n",
    "array with a mark": lambda rows: "\ufeff" + json.dumps(rows),
}


@pytest.mark.fast_first
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_the_records_are_those_of_json_lines(tmp_path: Path, written: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "dump.json").write_bytes(pack(WRITTEN[written](RECORDS).encode()))
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"], counts["set_aside"]) == (4, 4, 0)
    texts = [SUBMISSION["selftext"], *(record["body"] for record in RECORDS[1:])]
    assert parents(tmp_path) == dict(zip(texts, [None] + 3 * [texts[0]], strict=True))
    assert read_utterances(tmp_path / "out", "speaker, score") == [("ann", 7), *3 * [("bob", 3)]]


def test_a_value_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "BLOCK", 7)
    path = tmp_path / "numbers.json"
    values = [{"n": number, "text": "é" * number} for number in range(40)] + [123456789]
    path.write_text(json.dumps(values, ensure_ascii=False))
    with path.open("rb") as file:
        assert [json.loads(line) for line in json_values.objects(file, path)] == values


def test_what_is_no_json_in_an_array_is_set_aside(tmp_path: Path) -> None:
    good = [json.dumps(record).encode() for record in RECORDS]
    undecodable = good[2].replace(b"two", b"\xe9")
    (tmp_path / "dump.json").write_bytes(b"[\n" + b",\n".join([good[0], b"{bad}", undecodable, good[1]]) + b"\n]")
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"], counts["set_aside.malformed"]) == (4, 2, 2)


@pytest.mark.parametrize("write", [lambda rows: json.dumps(rows, indent=1), lambda rows: json.dumps({"data": rows})])
def test_a_text_that_is_no_utf_8_is_not_mended_in_what_is_written_anew(
    tmp_path: Path, write: Callable[[list[Any]], str]
) -> None:
    rows = [*RECORDS[:3], COMMENT | {"id": "c4", "body": "half \ud83d"}]
    written = write(rows).encode().replace(b"two", b"\xe9")
    (tmp_path / "dump.json").write_bytes(written)
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"], counts["set_aside.malformed"]) == (4, 3, 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps(RECORDS)[:-30], "ends in the middle"),
        (json.dumps(RECORDS)[:-30] + "\\", "ends in the middle"),
        (json.dumps(RECORDS).replace("}, {", "}, {,", 1), "no JSON where its record 2 should be"),
        (json.dumps([*RECORDS, *RECORDS]).replace("}, {", "}, x {", 5), "no JSON where its record 2 should be"),
        ("[1, 2, 3]", "begins a JSON array, and none"),
        ("[]", "begins a JSON array, and none"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "dump.json").write_text(content)
    with pytest.raises(PipelineError, match=sentence):
        read_corpus(tmp_path, [tmp_path / "dump.json"])


def test_values_of_mongodb_are_plain_ones(tmp_path: Path) -> None:
    post = {"_id": {"$oid": "5f"}, **SUBMISSION, "created_utc": {"$date": {"$numberLong": "1600000000123"}}}
    comment = COMMENT | {"score": {"$numberInt": "7"}, "created_utc": {"$date": "2020-09-13T12:26:40Z"}}
    quoted = COMMENT | {"id": "c9", "body": '{"$oid": "x"}', "score": {"$numberDouble": "8.0"}}
    for name, content in (("a", "".join(f"{json.dumps(r)}\n" for r in (post, comment))), ("b", json.dumps([quoted]))):
        (tmp_path / f"{name}.json").write_text(content)
    counts = read_corpus(tmp_path, [tmp_path / "a.json", tmp_path / "b.json"])
    assert (counts["taking_part"], counts["records"], counts["times_unreadable"]) == (3, 3, 0)
    rows = read_utterances(tmp_path / "out", "text, score, timestamp")
    assert {row[0]: row[1:] for row in rows} == {
        SUBMISSION["selftext"]: (SUBMISSION["score"], 1600000000),
        COMMENT["body"]: (7, 1600000000),
        '{"$oid": "x"}': (8, int(str(COMMENT["created_utc"]))),
    }


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_answers_of_an_interface_hold_records(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    pages = [{"data": RECORDS[:2], "metadata": {"es": 1}}, {"data": RECORDS[2:]}, {"data": []}, {"oops": 1}]
    (tmp_path / "dump.json").write_bytes(pack("".join(f"{json.dumps(page)}\n" for page in pages).encode()))
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"], counts["set_aside.malformed"]) == (5, 4, 1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "indented"])
def test_an_answer_of_an_interface_may_be_longer_than_a_record(
    tmp_path: Path, pack: Callable[[bytes], bytes], indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("LINE", 40_000), ("OVERLONG", 80_000), ("BLOCK", 1000)):
        monkeypatch.setattr(json_values, name, size)
    monkeypatch.setattr(json_lines, "BLOCK", 1000)
    records = [{"id": f"c{number}", "body": "][}{ " * 100} for number in range(200)]
    pages = [
        {"error": None, "data": records[:150], "metadata": {"es": {"took": [1]}}}, {"data": records[150:]}, {"data": []}
    ]  # fmt: skip
    content = "\n".join(json.dumps(page, indent=indent) for page in pages).encode()
    (tmp_path / "answer").write_bytes(pack(content))
    with (tmp_path / "answer").open("rb") as file:
        assert list(map(json.loads, json_lines.json_lines(file, tmp_path / "answer"))) == records
    for end in (70_000, content.index(b"]", 75_000), len(json.dumps(pages[0], indent=indent)) - 1):
        (tmp_path / "answer").write_bytes(pack(content[:end]))
        with (tmp_path / "answer").open("rb") as file, pytest.raises(PipelineError, match="ends in the middle"):
            list(json_lines.json_lines(file, tmp_path / "answer"))


def test_an_array_without_its_end_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "array").write_text(json.dumps(RECORDS)[:-1])
    with (tmp_path / "array").open("rb") as file, pytest.raises(PipelineError, match="ends in the middle"):
        list(json_lines.json_lines(file, tmp_path / "array"))


def test_an_answer_may_begin_with_a_list_of_its_columns_but_not_of_other_records() -> None:
    begin = '{"meta": [{"name": "id", "type": "Array(String)"}],\n "data": [{"id"'
    assert json_values.open_envelope(begin, "data") == begin.index('{"id"')
    assert json_values.open_envelope(begin.replace("meta", "comments"), "data") == 0


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"posts": [{"id": 1}]}, "posts"),
        ({"has_more": False, "items": [{"id": 1}], "quota_max": 300}, "items"),
        ({"id": 1, "comments": [{"id": 2}]}, ""),
        ({"data": [1, 2]}, ""),
        ({"data": []}, ""),
        ({"data": {"children": []}}, ""),
        ({"code": 0, "cursor": {"next": "x"}, "response": [{"id": 1}]}, "response"),
        ({"@odata.context": "x", "value": [{"id": 1}]}, "value"),
        ({"id": 1, "value": [{"id": 1}]}, ""),
        ({"meta": [{"name": "id"}], "data": [{"id": 1}], "rows": 1, "statistics": {"elapsed": 0.1}}, "data"),
        ({"comments": [{"id": 1}], "data": [{"id": 1}], "rows": 1}, ""),
        ([{"data": [{}]}], ""),
    ],
)
def test_a_record_that_holds_others_is_no_answer_of_an_interface(value: Any, key: str) -> None:
    assert json_values.envelope(json.dumps(value).encode()) == key


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize(
    "more", [[], [{"id": "c8", "link_id": "t3_p1", "parent_id": None, "body": "another file", "score": 1}]]
)
def test_half_of_a_sign_costs_itself_and_not_its_line(
    tmp_path: Path, pack: Callable[[bytes], bytes], more: list[Any]
) -> None:
    halves = [
        SUBMISSION | {"title": "cut \ud83d", "selftext": "post \ude00"},
        COMMENT | {"body": "\\ud83d \U0001f600 \ud83d"},
    ]
    (tmp_path / "files").mkdir()
    for name, rows in {"a": halves, "b": more}.items():
        if rows:
            (tmp_path / "files" / name).write_bytes(pack("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    counts = read_corpus(tmp_path, [tmp_path / "files"])
    assert counts["taking_part"] == counts["records"] == 2 + len(more)
    texts = {text for (text,) in read_utterances(tmp_path / "out", "text")}
    assert texts >= {"post \ufffd", "\\ud83d \U0001f600 \ufffd"}


def test_a_mark_between_files_that_were_joined_costs_no_row(tmp_path: Path) -> None:
    content = "".join(json.dumps(record) + "\n" for record in RECORDS[:2])
    (tmp_path / "dump.json").write_text(content + "\ufeff" + json.dumps(RECORDS[2]) + "\n")
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"]) == (3, 3)


@pytest.mark.parametrize("written", ["array on one line", "array, an object a line", "pretty objects"])
def test_an_overlong_record_costs_itself_and_not_its_file(
    tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "LINE", 4000)
    monkeypatch.setattr(json_values, "OVERLONG", 32_000)
    monkeypatch.setattr(json_values, "BLOCK", 1000)
    path = tmp_path / "dump.json"
    overlong = COMMENT | {"id": "long", "body": "so " * 3000}
    path.write_text(WRITTEN[written]([RECORDS[0], overlong, RECORDS[1]]))
    with path.open("rb") as file:
        found = [json.loads(line) for line in json_values.objects(file, path)]
    assert [found[0], found[-1]] == RECORDS[:2]
    assert set(map(str, found[1:-1])) == {"None"}


JOINTS = ["", " ", "\ufeff", "\n\ufeff"]


@pytest.mark.parametrize("joint", JOINTS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_files_that_were_joined_without_a_line_end_lose_no_row(
    tmp_path: Path, joint: str, pack: Callable[[bytes], bytes]
) -> None:
    """Of small and of large files, and as tables, whose lines are read in another way."""
    first, second, third = (json.dumps(COMMENT | {"id": id, "body": "a }{ b"}) for id in ("c1", "c2", "c3"))
    (tmp_path / "dump").write_bytes(pack(f"{json.dumps(SUBMISSION)}\n{first}{joint}{second}\n{third}\n".encode()))
    counts = write_utterances(tmp_path / "dump", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert (counts["read"], counts["records"]) == (4, 4)
    with (tmp_path / "dump").open("rb") as file:
        assert b"".join(json_lines.mended_json_lines(file, tmp_path / "dump")).count(b"\n") == 4
    assert len(small_files.plain_file(tmp_path / "dump", tmp_path).read_bytes().splitlines()) == 4


def test_what_stands_behind_joined_records_stays_a_line() -> None:
    assert mended_json.mended(b'{"a": 1}{"b": 2} x\n{"c": 3}\n') == b'{"a": 1}\n{"b": 2}\nx\n{"c": 3}\n'
    assert mended_json.mended(b'{"a": "}{"}\n') == b'{"a": "}{"}\n'


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_remarks_before_the_records_are_none(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    written = b"# posts\n\n// of 2020\n" + "".join(f"{json.dumps(row)}\n" for row in (SUBMISSION, COMMENT)).encode()
    (tmp_path / "dump").write_bytes(pack(written))
    counts = read_corpus(tmp_path, [tmp_path / "dump"])
    assert (counts["taking_part"], counts["records"]) == (2, 2)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_documents_of_an_index_are_the_records(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    bare = {key: value for key, value in COMMENT.items() if key != "id"}
    hits = [{"_id": "x", "_source": SUBMISSION}, {"_id": COMMENT["id"], "_score": 1, "_source": bare}, {"_id": "y"}]
    (tmp_path / "dump").write_bytes(pack("".join(f"{json.dumps(row)}\n" for row in hits).encode()))
    counts = read_corpus(tmp_path, [tmp_path / "dump"])
    assert (counts["taking_part"], counts["records"], counts["set_aside.malformed"]) == (2, 3, 1)


def test_a_mark_between_arrays_is_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(json.dumps([SUBMISSION]) + "\ufeff" + json.dumps([COMMENT]))
    counts = write_utterances(tmp_path / "dump", tmp_path / "out", UtteranceSettings(max_set_aside=0))
    assert counts["read"] == 2
