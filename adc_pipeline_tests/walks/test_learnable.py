"""A dataset that cannot teach verdicts, or cannot be evaluated, says so; the run goes on."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.definitions import defs
from adc_pipeline.walks.differences import count_differences
from adc_pipeline.walks.learnable import shortcomings

GOOD = {"turns": 5000, "turns.rejected": 900, "walks.train": 900, "walks.validation": 50, "walks.test": 50}


def test_a_good_dataset_has_no_shortcoming() -> None:
    assert shortcomings(GOOD, 1) == []


@pytest.mark.parametrize(
    ("counts", "walks", "same_as", "sentence"),
    [
        ({"turns.rejected": 0}, 1, [], "No turn is rejected"),
        ({"turns.rejected": 19}, 1, [], "Only 19 of 5,000 turns are rejected"),
        ({}, 1, ["random_walk"], "the same walks as random_walk"),
        ({"walks.train": 0}, 1, [], "The train split is empty"),
        ({"walks.validation": 0}, 1, [], "The validation split is empty"),
        ({"walks.test": 1}, 1, [], "The test split has 1 conversation, and an interval needs 20"),
        ({}, 5, [], "The test split has 10 conversations"),
    ],
)
def test_each_shortcoming_has_a_sentence(counts: dict[str, int], walks: int, same_as: list[str], sentence: str) -> None:
    (found,) = shortcomings(GOOD | counts, walks, same_as)
    assert sentence in found


@pytest.mark.slow
def test_dialogues_without_siblings_are_told_in_log_check_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    lines = ["id,conversation_id,reply_to,text,score"]
    for talk in range(500):
        lines += [f"t{talk}u{turn},t{talk}u0,{f't{talk}u{turn - 1}' if turn else ''},line,{turn}" for turn in range(3)]
    (tmp_path / "talk.csv").write_text("\n".join(lines))
    config: dict[str, Any] = {"ops": {"raw_corpus": {"config": {"corpus": str(tmp_path / "talk.csv")}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("datasets").execute_in_process(config, instance=instance)
        warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    assert any("No turn is rejected" in warning for warning in warnings)
    found = {
        event.asset_key.to_user_string(): event
        for event in result.get_asset_check_evaluations()
        if event.check_name == "something_to_learn"
    }
    assert set(found) == {"top_2", "random_walk", "ascending"}
    assert not any(check.passed for check in found.values())
    assert "the same walks as ascending, top_2" in (found["random_walk"].description or "")
    card = (tmp_path / "home" / "datasets" / "top-2" / "README.md").read_text()
    assert "> **Note.** No turn is rejected" in card
    card = (tmp_path / "home" / "datasets" / "preferences" / "README.md").read_text()
    assert "> **Note.** There is no pair" in card


def walk(*turns: tuple[str, str], scores: Sequence[int | None] = ()) -> dict[str, Any]:
    text, found = "ann\nwhy\n<background>", []
    for (content, verdict), score in zip_longest(turns, scores):
        start = len(text)
        text += f"{content}<{verdict}>"
        found.append({"verdict": verdict, "start": start, "end": start + len(content), "score": score})
    return {"text": text, "turns": found}


@pytest.mark.parametrize(
    ("replies", "counted"),
    [
        # Of one step only: the next step's accepted turn may repeat a rejected one.
        ([("a", "rejected"), ("b", "accepted"), ("a", "accepted")], (1, 0)),
        ([("me too", "rejected"), ("no", "rejected"), (" me\u00a0too\u200b\n", "accepted")], (2, 1)),
        ([(" ", "rejected"), ("\n", "accepted")], (1, 1)),
        ([("ö" * 30_000, "rejected"), ("x", "accepted")], (0, 0)),
    ],
)
def test_rejected_turns_are_compared_with_the_accepted_one_of_their_step(
    tmp_path: Path, replies: list[tuple[str, str]], counted: tuple[int, int]
) -> None:
    pq.write_table(pa.Table.from_pylist([walk(*replies)] * 3 + [walk(("b", "accepted"))]), tmp_path / "train.parquet")
    found = count_differences([str(tmp_path / "train.parquet")], Engine(), tmp_path / "spill")
    assert (found["sampled.rejected"], found["sampled.same_as_accepted"]) == (3 * counted[0], 3 * counted[1])
    assert (found["sampled.walks"], found["sampled.different"]) == ((4, 2) if counted[0] else (1, 1))


def test_rejected_turns_with_the_score_of_the_accepted_one_are_counted(tmp_path: Path) -> None:
    turns = (("a", "rejected"), ("b", "rejected"), ("c", "accepted"), ("d", "accepted"))
    rows = [walk(*turns, scores=scores) for scores in ([7, 5, 7, 5], [None, 5, None, 5], [1, 2, 3, 1])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = count_differences([str(tmp_path / "train.parquet")], Engine(), tmp_path / "spill")
    assert (found["sampled.rejected"], found["sampled.tied"]) == (6, 1)


@pytest.mark.parametrize(("tied", "said"), [(0, False), (880, False), (881, True), (900, True)])
def test_ties_that_decide_the_verdicts_are_told(tied: int, said: bool) -> None:
    found = shortcomings(GOOD | {"sampled.rejected": 900, "sampled.tied": tied}, 1)
    assert [f"Of 900 rejected replies that were compared, {tied} have the score" in each for each in found] == [
        True
    ] * said
    assert not shortcomings(GOOD | {"sampled.rejected": 900}, 1)


@pytest.mark.parametrize(
    ("rejected", "same", "walks", "texts", "sentence"),
    [
        (900, 900, 500, 500, "Every rejected reply has the text of the accepted one"),
        (900, 881, 500, 500, "Of 900 rejected replies that were compared, only 19 differ"),
        (900, 880, 500, 500, ""),
        (900, 0, 500, 1, "Of 500 training walks that were compared, only 1 differs in the replies"),
        (900, 0, 500, 19, "only 19 differ in the replies"),
        (900, 0, 19, 1, ""),
    ],
)
def test_texts_that_do_not_differ_are_told(rejected: int, same: int, walks: int, texts: int, sentence: str) -> None:
    names = ("sampled.rejected", "sampled.same_as_accepted", "sampled.walks", "sampled.different")
    found = shortcomings(GOOD | dict(zip(names, (rejected, same, walks, texts), strict=True)), 1)
    assert len(found) == bool(sentence)
    assert sentence in " ".join(found)


@pytest.mark.slow
def test_replies_with_one_text_are_told_by_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    lines = ["id,conversation_id,reply_to,speaker,text,score"]
    for talk in range(300):
        lines += [f"{talk}.0,{talk}.0,,ann,question {talk},1"]
        lines += [f"{talk}.{reply},{talk}.0,{talk}.0,bob{reply},same,{reply}" for reply in range(1, 5)]
    (tmp_path / "talk.csv").write_text("\n".join(lines))
    config: dict[str, Any] = {"ops": {"raw_corpus": {"config": {"corpus": str(tmp_path / "talk.csv")}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("datasets").execute_in_process(config, instance=instance)
    cards = [(tmp_path / "home" / "datasets" / name / "README.md").read_text() for name in ("top-2", "random-walk")]
    assert all("Every rejected reply has the text of the accepted one beside it" in card for card in cards)
    checks = [event for event in result.get_asset_check_evaluations() if event.check_name == "something_to_learn"]
    assert not any(check.passed for check in checks)
