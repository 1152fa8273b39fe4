"""What only later lines of a file tell is not lost: the first thousand decide what the file is."""

import json
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.stages import read as read_table
from adc_pipeline_tests.stages import read_utterances

Record = dict[str, Any]
FIRST = 1100
NESTED = {"id": "n", "text": "inside"}


def message(number: int, **more: Any) -> Record:
    parent = None if number == 0 else "0"
    return {"id": str(number), "conversation_id": "0", "reply_to": parent, "text": "hi", "score": number} | more


def comment(number: int, **more: Any) -> Record:
    return {"id": f"c{number}", "body": "hi", "score": 1, "link_id": "t3_p", "parent_id": "t3_p"} | more


def post(number: int, **more: Any) -> Record:
    return {"id": "p" if number == 0 else f"p{number}", "title": "T", "selftext": "hi", "score": 1} | more


def lemmy(number: int, **more: Any) -> Record:
    comment = {"id": number, "post_id": 1, "path": f"0.{number}", "content": "hi"}
    return {"comment": comment, "counts": {"score": 1}} | more


def spelt(records: list[Record]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def read(path: Path, content: bytes, columns: dict[str, str] | None = None) -> dict[str, int]:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    corpus = path.parent if path.name == "utterances.jsonl" else path
    settings = UtteranceSettings(max_set_aside=1)
    return write_utterances(corpus, path.parent / "out", settings, source=CorpusSettings(columns=columns or {}))


@pytest.mark.parametrize(
    ("record", "key", "inside", "columns"),
    [
        (message, "comments", [NESTED], {}),
        (comment, "replies", {"data": {"children": [{"data": NESTED}]}}, {}),
        (post, "replies", [7, NESTED], {"flair": "author_flair"}),
        (lemmy, "answers", {"n": NESTED}, {"flair": "comment.flair"}),
    ],
)
def test_replies_inside_a_later_record_end_the_run(
    tmp_path: Path, record: Any, key: str, inside: Any, columns: dict[str, str]
) -> None:
    harmless = {"replies": 3, "comments": [], "children": ["a", "b"], "answers": {"text": ["x"]}, "responses": ""}
    begin = [record(number, **harmless) for number in range(FIRST)]
    assert read(tmp_path / "sound" / "some.jsonl", spelt(begin), columns)["read"] == FIRST
    with pytest.raises(PipelineError, match=rf"some.jsonl, .* records inside its records, under the key {key}"):
        read(tmp_path / "lost" / "some.jsonl", spelt([*begin, record(FIRST, **{key: inside})]), columns)


def test_comments_behind_many_posts_are_read_as_what_they_are(tmp_path: Path) -> None:
    posts = [{"post": {"id": number, "name": "T", "body": "hi"}, "counts": {"score": 1}} for number in range(FIRST)]
    comments = [lemmy(number) for number in range(3)]
    assert read(tmp_path / "in" / "some.jsonl", spelt([*posts, *comments]))["taking_part"] == FIRST + 3
    rows = read_utterances(tmp_path / "in" / "out", "id, reply_to, text", where="reply_to IS NOT NULL")
    assert rows == [(str(number), "1", "hi") for number in range(3)]


@pytest.mark.parametrize("first", [0, FIRST])
@pytest.mark.parametrize("name", ["some.jsonl", "utterances.jsonl"])
def test_json_lines_in_another_encoding_name_it(tmp_path: Path, name: str, first: int) -> None:
    begin = [message(number) | {"meta": {"score": 1}} for number in range(max(first, 2))]
    broken = spelt([message(FIRST + 1, text="café"), message(FIRST + 2, text="naïve")]).decode().encode("latin-1")
    with pytest.raises(PipelineError, match=rf"{name}, .* is not in UTF-8 but in Windows-1252 .*: save it as UTF-8"):
        read(tmp_path / "some" / name, spelt(begin) + broken)
    # Damaged lines beside one in UTF-8, and very few of many.
    counts = read(tmp_path / "mixed" / name, spelt([*begin, message(FIRST + 3, text="café")]) + broken)
    assert counts["set_aside.malformed"] == 2
    counts = read(tmp_path / "many" / name, spelt([message(number) for number in range(2 * FIRST)]) + broken)
    assert counts["set_aside.malformed"] == 2


def test_a_field_inside_objects_inside_objects_is_mapped(tmp_path: Path) -> None:
    records = [
        {
            "n": str(n),
            "of": "1",
            "to": parent,
            "data": {"said": {"text.raw": f"hi {n}"}, "by": {"who": {"name": "ann"}}},
        }
        for n, parent in ((1, None), (2, "1"), (3, "1"))
    ]
    columns = {"id": "n", "conversation_id": "of", "reply_to": "to", "score": "n"}
    columns |= {"text": "data.said.text.raw", "speaker": "Data.by.who.name"}
    assert read(tmp_path / "in" / "some.jsonl", spelt(records), columns)["taking_part"] == 3
    rows = read_utterances(tmp_path / "in" / "out", "id, speaker, text")
    assert rows == [("1", "ann", "hi 1"), ("2", "ann", "hi 2"), ("3", "ann", "hi 3")]


@pytest.mark.parametrize("name", ["some.jsonl", "utterances.jsonl"])
def test_a_field_inside_objects_is_carried_from_dumps_and_convokit(tmp_path: Path, name: str) -> None:
    inside = {"votes.up": {"x": 7}, "gild": {"by": {"me": 3}}}
    record = post(0, **inside) if name == "some.jsonl" else message(0) | {"meta": {"score": 1} | inside}
    begin = "" if name == "some.jsonl" else "meta."
    columns = {"one": f"{begin}gild.by.me", "two": f"{begin}gild.by", "none": f"{begin}gild.to.me"}
    read(tmp_path / "in" / name, spelt([record]), columns)
    (carried,) = read_table(tmp_path / "in" / "out", "utterances-*.parquet", "one, two, none")
    assert carried == ("3", '{"me":3}', None)
