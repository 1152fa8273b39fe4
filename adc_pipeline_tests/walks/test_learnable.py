"""A dataset that cannot teach verdicts, or cannot be evaluated, says so; the run goes on."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.definitions import defs
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
