"""`adc score`: candidates ranked by a model, with the figures of the evaluation's scorer."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from adc_pipeline.cli.main import main
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation import served
from adc_pipeline.evaluation.scoring.candidates import Ranker
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.questions import conversation_of
from adc_pipeline.generation.serving import question
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.training.texts.arrangement import arrangement_facts
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


def answer(ranker: Ranker, **asked: object) -> dict[str, Any]:
    (found,) = ranker.answers(iter([json.dumps(ASKED | asked)]))
    return found


def test_candidates_of_one_question_share_one_list_of_them(model: Path) -> None:
    """A list for each candidate is looked at for each: 10,000 candidates took 60 s more."""
    first, *others = Ranker.load(str(model)).queries_of(ASKED)
    assert len(first.siblings) == len(ASKED["candidates"])
    assert all(other.siblings is first.siblings for other in others)


def test_threads_of_a_command_wait_briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT")
    CliRunner().invoke(main, ["score", "--model", str(tmp_path)])
    assert int(os.environ["GOMP_SPINCOUNT"]) < 100_000


def test_a_question_means_the_same_however_it_is_written(model: Path) -> None:
    ranker = Ranker.load(str(model))
    first = answer(ranker)
    assert answer(ranker, candidates=["Oil\nit."]) != answer(ranker, candidates=["Oil it."])
    assert answer(ranker, candidates=["Oil\r\nit."]) == answer(ranker, candidates=["Oil\nit."])
    assert answer(ranker, post="Why?\r\nIt leaks.", title=None) == first
    # Rejected replies follow the turns, and a null is not given.
    well = TURNS[1]
    rejected = answer(ranker, turns=[well | {"verdict": None}], rejected=["No.", "Nor so."])
    turns = [well, {"text": "No.", "verdict": "rejected"}, {"text": "Nor so.", "verdict": "rejected"}]
    assert rejected == answer(ranker, turns=turns)
    assert answer(ranker, turns=None, rejected=None) == answer(ranker, turns=[])
    forged = answer(ranker, candidates=[{"text": "x", "speaker": "ann\nYes"}])
    assert forged["error"].startswith("Line 1: The `speaker` has to be one line")


WRONG: dict[str, dict[str, Any]] = {
    "`title` is missing or is no text": {"title": 0},
    "`speaker` is missing or is no text": {"turns": [{"text": "No.", "speaker": False}]},
    "the verdict of a turn is {}": {"turns": [{"text": "No.", "verdict": {}}]},
    "`turn` is not known (did you mean turns?)": {"turn": TURNS},
    "`verdit` is not known (did you mean verdict?)": {"turns": [{"text": "No.", "verdit": "rejected"}]},
    "`speker` is not known (did you mean speaker?)": {"candidates": [{"text": "No.", "speker": "ann"}]},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_is_neither_text_nor_null_is_no_missing_field(reason: str, model: Path) -> None:
    assert answer(Ranker.load(str(model)), **WRONG[reason])["error"].startswith(f"Line 1: {reason}")


def test_a_line_that_is_no_question_has_its_number_and_stops_nothing(model: Path) -> None:
    lines = ["\ufeff" + json.dumps(ASKED), "", "[" * 200_000, json.dumps(ASKED)]
    done = CliRunner().invoke(main, ["score", "--model", str(model)], input="\n".join(lines))
    first, deep, last = map(json.loads, done.stdout.splitlines())
    assert first == last
    assert deep["error"].startswith("Line 3: it is not JSON (it is nested too deeply)")


def test_a_context_is_no_longer_than_in_the_training(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "training.json").write_text(json.dumps({"train": {"sequence_length": 40}}))
    short, long = Ranker.load(str(folder)), Ranker.load(str(model))
    assert (short.scorer.context_tokens, long.scorer.context_tokens) == (40, 256)
    found = answer(short, post="Why? " * 60, candidates=["Oil it.", "x " * 60])["candidates"]
    assert [each["rank"] for each in found] == [1, None]


def test_a_reply_reads_the_turns_of_its_row(model: Path) -> None:
    served_model = served._load_pyfunc(str(model))
    asked = conversation_of(
        served_model.replier, question({"post": "Why?", "turns": np.array(TURNS), "rejected": ["lol", None, ""]})
    )
    assert asked.turns == (("user2\nNo.", "rejected"), ("bob\nWell ‹accepted›", "accepted"), ("user4\nlol", "rejected"))
    with pytest.raises(PipelineError, match=r"`turns` is 'No\.'; send a list"):
        question({"post": "Why?", "turns": "No."})


@pytest.mark.parametrize(
    ("facts", "how"),
    [
        (arrangement_facts(TrainingSettings(objective="dpo")), "the objective dpo"),
        (arrangement_facts(TrainingSettings(objective="kto")), "the objective kto"),
        (arrangement_facts(TrainingSettings(objective="conditional")), "the objective conditional"),
        (arrangement_facts(TrainingSettings(objective="filtering")), "the objective filtering"),
        (arrangement_facts(TrainingSettings(markers="neutral")), "`markers` neutral"),
        # Of an earlier version, which said nothing of the calibration.
        ({"objective": "dpo", "markers": "neutral", "measures_without_meaning": []}, "the objective dpo"),
    ],
)
def test_a_model_without_a_verdict_after_a_reply_ranks_nothing(
    facts: dict[str, Any], how: str, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "training.json").write_text(json.dumps(facts))
    with pytest.raises(PipelineError, match=rf"was trained with {how}, which does not give a verdict after a reply"):
        Ranker.load(str(folder))
