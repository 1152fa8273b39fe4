"""What cannot take part is set aside with a reason, is counted, can be read, and never vanishes. 4 s of CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.errors import PipelineError
from adc_pipeline_tests.stages import read as tables
from adc_pipeline_tests.stages import read_utterances
from adc_pipeline_tests.trees import Corpus, Row

Line = dict[str, Any] | str
SetAside = dict[int, tuple[str, str | None]]


def row(id: str, reply_to: str | None, conversation_id: str = "r", score: Any = 1, timestamp: int = 0) -> Row:
    return Row(id, conversation_id, reply_to, "ann", f"text of {id}", timestamp, {"score": score})


SOUND = [row("r", None), row("a", "r"), row("b", "a")]


def read(
    folder: Path, rows: list[Row], settings: UtteranceSettings | None = None, lines: list[Line] | None = None
) -> tuple[dict[str, int], list[str], SetAside]:
    """Counts, ids that take part, and (position -> reason, because_of) of the rest.

    `lines` are appended to the file as they are.
    """
    directory = Corpus(rows, {"r": {"title": "Title"}}).write(folder / "corpus")
    with (directory / "utterances.jsonl").open("a", encoding="utf-8") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines or [])
    out = folder / "out"
    counts = write_utterances(directory, out, settings or UtteranceSettings(max_set_aside=1.0))
    ids = read_utterances(out, "id")
    found = tables(out, "set_aside.parquet", "position, reason, because_of")

    assert counts["read"] == len(rows) + len(lines or []) == counts["taking_part"] + counts["set_aside"]
    assert counts["taking_part"] == len(ids)
    reasons = [reason for _, reason, _ in found]
    assert {key: n for key, n in counts.items() if key.startswith("set_aside.")} == {
        f"set_aside.{reason}": reasons.count(reason) for reason in set(reasons)
    }
    return counts, [id for (id,) in ids], {position: (reason, by) for position, reason, by in found}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("x", "gone"), row("y", "x")], {3: ("missing_parent", None), 4: ("missing_parent", "x")}),
        (
            [row("x", "b", "other"), row("other", None, "other"), row("y", "x", "other")],
            {3: ("other_conversation", None), 5: ("other_conversation", "x")},
        ),
        ([row("x", "y"), row("y", "x"), row("z", "x")], dict.fromkeys((3, 4, 5), ("loop", None))),
        ([row("x", "x")], {3: ("loop", None)}),
        ([row("x", "a", score=None), row("y", "x")], {3: ("no_score", None), 4: ("no_score", "x")}),
        ([row("x", None), row("y", "x")], {3: ("second_root", None), 4: ("second_root", "x")}),
    ],
    ids=["missing_parent", "other_conversation", "loop", "loop of one", "no_score", "second_root"],
)
def test_each_reason(rows: list[Row], expected: SetAside, tmp_path: Path) -> None:
    counts, ids, aside = read(tmp_path, SOUND + rows)
    assert aside == expected
    assert counts["set_aside"] == len(expected)
    assert {"r", "a", "b"} <= set(ids)


def test_an_utterance_at_fault_below_another_answers_for_itself(tmp_path: Path) -> None:
    rows = [row("x", "gone"), row("y", "x"), row("z", "y", score=None), row("w", "z")]
    _, _, aside = read(tmp_path, SOUND + rows)
    assert aside == {
        3: ("missing_parent", None),
        4: ("missing_parent", "x"),
        5: ("no_score", None),
        6: ("no_score", "z"),
    }


def test_of_several_rows_with_one_id_one_takes_part_whatever_their_order(tmp_path: Path) -> None:
    early, late, same = row("x", "a", timestamp=1), row("x", "b", timestamp=2), row("b", "a")
    replies = [row("y", "x")]
    kept = []
    for number, rows in enumerate([[early, late, same], [late, early, same], [same, late, early]]):
        counts, ids, aside = read(tmp_path / str(number), SOUND + rows + replies)
        assert counts["set_aside.duplicate_id"] == 2
        assert sorted(ids) == ["a", "b", "r", "x", "y"]
        assert {reason for reason, _ in aside.values()} == {"duplicate_id"}
        kept.append(read_utterances(tmp_path / str(number) / "out", "reply_to, timestamp", "id = 'x'"))
    assert kept == [[("a", 1)]] * 3


def test_a_second_row_of_the_root_does_not_make_a_second_root(tmp_path: Path) -> None:
    _, ids, aside = read(tmp_path, [*SOUND, row("r", None)])
    assert ids == ["r", "a", "b"]
    assert aside == {3: ("duplicate_id", None)}


def test_lines_that_hold_no_utterance_are_set_aside(tmp_path: Path) -> None:
    whole = {"conversation_id": "r", "reply-to": "r", "speaker": "ann", "text": "t", "meta": {"score": 1}}
    lines: list[Line] = ['{"id": "x", "text', "[1, 2]", whole, {**whole, "id": "y", "conversation_id": None}]
    _, ids, aside = read(tmp_path, SOUND, lines=lines)
    assert ids == ["r", "a", "b"]
    assert aside == {
        3: ("malformed", None),
        4: ("malformed", None),
        5: ("no_id", None),
        6: ("no_conversation", None),
    }


@pytest.mark.parametrize("score", [7, "7", 7.0, -(2**31) - 1])
def test_a_whole_number_is_a_score_however_it_is_spelt(score: float | str, tmp_path: Path) -> None:
    _, ids, _ = read(tmp_path, [*SOUND, row("x", "a", score=score)])
    assert "x" in ids
    assert read_utterances(tmp_path / "out", "score", "id = 'x'") == [(int(score),)]


@pytest.mark.parametrize("score", ["many", "", 1.5, [1], {"up": 1}, True])
def test_anything_else_is_no_score(score: Any, tmp_path: Path) -> None:
    _, _, aside = read(tmp_path, [*SOUND, row("x", "a", score=score)])
    assert aside == {3: ("no_score", None)}


def test_an_excerpt_has_a_root_unless_the_setting_says_otherwise(tmp_path: Path) -> None:
    excerpt = [row("x", "gone", score=None), row("y", "x")]
    counts, ids, aside = read(tmp_path / "adopted", excerpt)
    assert (ids, aside, counts["adopted_roots"]) == (["x", "y"], {}, 1)
    strict = UtteranceSettings(adopt_roots=False, max_set_aside=1.0)
    counts, ids, aside = read(tmp_path / "strict", [row("x", "gone"), row("y", "x")], strict)
    assert (ids, counts["adopted_roots"]) == ([], 0)
    assert aside == {0: ("missing_parent", None), 1: ("missing_parent", "x")}


def test_more_than_the_largest_share_set_aside_ends_the_run(tmp_path: Path) -> None:
    rows = [*SOUND, row("x", "gone")]
    read(tmp_path / "enough", rows, UtteranceSettings(max_set_aside=0.25))
    with pytest.raises(PipelineError, match=r"1 of 4 .*1 missing_parent.*max_set_aside"):
        read(tmp_path / "too much", rows, UtteranceSettings(max_set_aside=0.24))
    # What it would be can be looked at.
    assert tables(tmp_path / "too much" / "out", "set_aside.parquet", "id, reason") == [("x", "missing_parent")]


def test_a_file_that_is_cut_off_ends_the_run(tmp_path: Path) -> None:
    directory = Corpus(SOUND).write(tmp_path / "corpus")
    lines = directory / "utterances.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    with pytest.raises(PipelineError, match=r"utterances\.jsonl.* incomplete"):
        write_utterances(directory, tmp_path)
