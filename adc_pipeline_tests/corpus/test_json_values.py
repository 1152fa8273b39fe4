"""JSON that is not one object a line: arrays, objects over several lines, commas between lines."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers import lines
from adc_pipeline_tests.corpus.test_dumps import COMMENT, SUBMISSION
from adc_pipeline_tests.corpus.test_keys import parents, read_corpus

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


def test_a_value_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 7)
    path = tmp_path / "numbers.json"
    values = [{"n": number, "text": "é" * number} for number in range(40)] + [123456789]
    path.write_text(json.dumps(values, ensure_ascii=False))
    with path.open("rb") as file:
        assert [json.loads(line) for line in lines.objects(file, path)] == values


def test_what_is_no_json_in_an_array_is_set_aside(tmp_path: Path) -> None:
    good = [json.dumps(record).encode() for record in RECORDS]
    undecodable = good[2].replace(b"two", b"\xe9")
    (tmp_path / "dump.json").write_bytes(b"[\n" + b",\n".join([good[0], b"{bad}", undecodable, good[1]]) + b"\n]")
    counts = read_corpus(tmp_path, [tmp_path / "dump.json"])
    assert (counts["records"], counts["taking_part"], counts["set_aside.malformed"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps(RECORDS)[:-30], "ends in the middle"),
        ("[1, 2, 3]", "begins a JSON array, and none"),
        ("[]", "begins a JSON array, and none"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "dump.json").write_text(content)
    with pytest.raises(PipelineError, match=sentence):
        read_corpus(tmp_path, [tmp_path / "dump.json"])
