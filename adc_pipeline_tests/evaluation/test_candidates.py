"""`adc score`: candidates ranked by a model, with the figures of the evaluation's scorer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from adc_pipeline.cli.main import main
from adc_pipeline.evaluation import served
from adc_pipeline.evaluation.scoring import Query, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline_tests.training.conftest import small_model

__all__ = ["small_model"]

TURNS = [{"text": "No.", "verdict": "rejected"}, {"text": "Well <accepted>", "speaker": "bob"}]
ASKED = {"post": "Why?\nIt leaks.", "speaker": "ann", "turns": TURNS, "candidates": ["Oil it.", "lol", {"text": "Yes"}]}


@pytest.fixture(scope="module")
def model(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that tells the markers apart: a prepared one gives both the same probability."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(small_model, tmp_path_factory.mktemp("noisy") / "model")
    noisy = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in noisy.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    noisy.save_pretrained(folder)
    return folder


def test_candidates_get_the_figures_of_the_evaluation(model: Path) -> None:
    lines = [json.dumps(ASKED), "{", json.dumps({"post": "p", "candidates": []}), json.dumps(ASKED | {"turns": []})]
    done = CliRunner().invoke(main, ["score", "--model", str(model)], input="\n".join(lines))
    first, broken, empty, other = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 2
    assert "2 of the lines could not be read" in done.stderr
    assert broken["error"].startswith("Line 2: it is not JSON")
    assert empty == {"error": "Line 3: `candidates` is missing, empty or no list: give a list of texts."}
    assert first != other

    # A served model gives the same answer, whatever else the request asks.
    requests = pd.DataFrame([{"post": "Else"}, ASKED, ASKED | {"turns": [], "candidates": ["a"] * 3}])
    (reply, same, tied) = served._load_pyfunc(str(model)).predict(requests, {"max_new_tokens": 2}).to_dict("records")
    assert reply["reply"]
    assert reply["candidates"] is None
    assert [each["rank"] for each in tied["candidates"]] == [1, 2, 3]
    for figures, ours in zip(same["candidates"], first["candidates"], strict=True):
        assert figures == pytest.approx(ours, abs=1e-5)

    # The same questions as the evaluation asks them. In float32 the last digits depend on what shares a batch. A marker
    # that a person wrote is neutralised.
    turns = (("user2\nNo.", "rejected"), ("bob\nWell ‹accepted›", "accepted"))
    segments = tuple(f"user4\n{text}" for text in ("Oil it.", "lol", "Yes"))
    queries = [Query("ann\nWhy?\nIt leaks.", turns, segment, segments) for segment in segments]  # type: ignore[arg-type]
    scores = Scorer.load(model, EvaluationSettings()).score(queries, np.zeros(3, dtype=bool))
    order = list(np.argsort(-scores.log_odds))
    for place, figures in enumerate(first["candidates"]):
        assert figures["p_accepted"] == pytest.approx(1 / (1 + np.exp(-scores.log_odds[place])), abs=1e-6)
        assert figures["rank"] == order.index(place) + 1
        if place == order[-1]:
            assert figures["margin"] is None
        else:
            following = order[order.index(place) + 1]
            margin = scores.log_odds[place] - scores.log_odds[following]
            assert figures["margin"] == pytest.approx(margin, abs=1e-5)
