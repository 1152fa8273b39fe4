"""A model's card is read by huggingface_hub: results with intervals, data with digests, objective and limits."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.presentation.model_card import Subject, model_card


def test_the_card_has_results_data_objective_and_limits(tmp_path: Path) -> None:
    facts = {"objective": "dpo", "markers": "after", "measures_without_meaning": ["steering"], "train": {}}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    artefacts = [Artefact(name, tmp_path, digest) for name, digest in (("top_2_model", "a1"), ("top_2", "b2"))]
    subject = Subject("adc-top-2", tmp_path, "top_2", "org/base", "/data/a|b", {"epochs": 3}, artefacts)
    model = {
        "preference_accuracy": Estimate(0.75, 0.7, 0.8, 100, 20),
        "steering": Estimate(None, None, None, 0, 0),
        "unknown": Estimate(1.0, 1.0, 1.0, 1, 1),
    }
    text = model_card(subject, model, {"preference_accuracy": Estimate(0.5, 0.45, 0.55, 100, 20)})

    (tmp_path / "README.md").write_text(text)
    card = ModelCard.load(tmp_path / "README.md")
    data: Any = card.data
    assert str(card) == text
    # What the Hub requires of a model index.
    (index,) = data.to_dict()["model-index"]
    for each in index["results"]:
        assert each["task"]["type"] == "text-generation"
        assert each["dataset"].keys() >= {"type", "name"}
        assert all(metric.keys() >= {"type", "value"} for metric in each["metrics"])
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_revision) == ("preference_accuracy", 0.75, "b2")
    assert result.metric_args == {"low": 0.7, "high": 0.8, "cases": 100}
    assert data.base_model == "org/base"
    assert "model-index" in card.content
    for part in (
        "Objective: `dpo`",
        "| `preference_accuracy` | 0.75 | 0.7 to 0.8 | 0.5 | 100 |",
        "`b2`",
        "| epochs | 3 |",
    ):
        assert part in text
    assert "gives `steering` no meaning" in text
    assert "has no chat template" in text
