"""The check `learned_something` states why it failed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.assets.evaluation import evaluations, perplexity_check
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline_tests.promotion.evaluations import write_evaluation


def checked(
    home: Path, monkeypatch: pytest.MonkeyPatch, ours: float | None, base: float | None, left_out: int = 0
) -> dg.AssetCheckResult:
    """Run the check on an evaluation with these perplexities and this number of excluded conversations."""
    monkeypatch.setenv("ADC_HOME", str(home))
    store = Store(home)
    with store.aside("top_2_evaluation") as folder:
        evaluation = Evaluation.read(write_evaluation(folder, {"c": 1.0}))
        found = [{"perplexity": Estimate(value, None, None, 0, 0)} for value in (ours, base)]
        evaluation = replace(evaluation, model=found[0], base=found[1], counts={"conversations.left_out": left_out})
        (folder / "evaluation.json").write_text(json.dumps(asdict(evaluation)))
        store.put(folder, Artefact("top_2_evaluation", folder, "0" * 32))
    result = perplexity_check(evaluations[0])(workspace=Workspace())
    assert isinstance(result, dg.AssetCheckResult)
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "base", "sentence"),
    [
        (2.0, 3.0, None),
        (3.0, 3.0, "Held-out perplexity is 3.000, not below the base model's 3.000"),
        (float("inf"), 3.0, "Held-out perplexity is inf, not below"),
        (
            None,
            None,
            "No conversation of the test split could be evaluated: increase its share in the setting `shares`.",
        ),
    ],
)
def test_a_failed_check_states_the_reason(
    ours: float | None, base: float | None, sentence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = checked(tmp_path, monkeypatch, ours, base)
    assert result.passed == (sentence is None)
    assert (result.description or "").startswith(sentence or "")


@pytest.mark.slow
def test_a_failed_check_counts_the_conversations_that_are_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = checked(tmp_path, monkeypatch, None, None, left_out=7).description or ""
    assert description.endswith(" 7 are excluded because their root also occurs in the training split.")
