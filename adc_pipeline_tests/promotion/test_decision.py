"""A version is promoted only if the whole interval is better, on shared cases."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.evaluation.formatting import number
from adc_pipeline.evaluation.settings import DIRECTIONS
from adc_pipeline.lifecycle.decision import DECISION, Decision, Evaluated, decide, read_decision
from adc_pipeline.lifecycle.settings import PromotionSettings
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.learnable import FEWEST_CONVERSATIONS
from adc_pipeline_tests.promotion.evaluations import DRAWS, answers, write_evaluation

ACCURACY = PromotionSettings("preference_accuracy", DRAWS)
CONTEXT = 1024


def against(
    folder: Path, new: dict[str, float], old: dict[str, float] | None, settings: PromotionSettings = ACCURACY
) -> Decision:
    """Decide on version 2 with the answers `new`; version 1 with the answers `old` is champion."""
    ours = write_evaluation(folder / "new", new, metric=settings.metric)
    champion = None
    if old is not None:
        champion = Evaluated("1", write_evaluation(folder / "old", old, metric=settings.metric), CONTEXT)
    return decide(Evaluated("2", ours, CONTEXT), champion, [], settings)


@pytest.mark.parametrize(("new", "promoted"), [(1.0, True), (0.8, True), (0.5, False), (0.55, False), (0.1, False)])
def test_a_version_is_promoted_if_the_whole_interval_is_better(tmp_path: Path, new: float, promoted: bool) -> None:
    for old in (answers(0.5), None):
        # The base model answers every case with ½.
        decision = against(tmp_path, answers(new), old)
        assert decision.promoted == promoted
        assert decision.figures()["difference"] == pytest.approx(new - 0.5)
        assert decision.against == ("version 1" if old else "the base model")
        assert ("becomes champion" in decision.reason) == promoted
        # No interval where all conversations are alike; the difference that all of them have decides.
        alike = new == (0.5 if old else 1.0)
        bounds = "no interval: 40 conversations alike, p" if alike else "95 % interval"
        assert f"is {number(new - 0.5, sign=True)} ({bounds}" in decision.reason


@pytest.mark.parametrize("metric", [name for name, direction in DIRECTIONS.items() if direction < 0])
def test_lower_is_better_for_some_metrics(tmp_path: Path, metric: str) -> None:
    settings = PromotionSettings(metric, DRAWS)
    assert against(tmp_path, answers(0.1), answers(0.6), settings).promoted
    assert not against(tmp_path, answers(0.6), answers(0.1), settings).promoted


cases = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)


@pytest.mark.slow
@hypothesis_settings(deadline=None, max_examples=40)
@given(cases)
def test_the_interval_equals_an_obvious_bootstrap(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[float, float]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("evaluations")
    new, old = ({f"c{number:02}": pair[which] for number, pair in enumerate(pairs)} for which in (0, 1))
    decision, other_way = against(folder, new, old), against(folder, old, new)
    apart = np.array([ours - theirs for ours, theirs in pairs])
    enough = len(pairs) >= FEWEST_CONVERSATIONS
    if enough:
        assert decision.difference is not None
        rng = np.random.default_rng(0)
        means = [apart[rng.integers(len(apart), size=len(apart))].mean() for _ in range(DRAWS)]
        low, high = np.percentile(means, [2.5, 97.5])
        assert (decision.difference.low, decision.difference.high) == (pytest.approx(low), pytest.approx(high))
        if abs(low) > 1e-9:
            assert decision.promoted == (low > 0)
    else:
        assert not decision.promoted
    assert enough or "an interval needs 20" in decision.reason or "have no interval" in decision.reason
    assert not (decision.promoted and other_way.promoted)


def test_the_validation_split_decides_and_not_the_test_split(tmp_path: Path) -> None:
    for name, validation, test in (("worse", 0.5, 1.0), ("better", 1.0, 0.5)):
        new = write_evaluation(tmp_path / name, answers(test), validation=answers(validation))
        old = Evaluated("1", write_evaluation(tmp_path / "old", answers(0.6), validation=answers(0.4)), CONTEXT)
        decision = decide(Evaluated("2", new, CONTEXT), old, [], ACCURACY)
        assert decision.promoted == (name == "better")
        assert decision.reason.startswith("On the validation split, preference_accuracy of version 2 minus")
        assert decision.figures() | {
            "validation.new": validation, "validation.against": 0.4, "test.new": test, "test.against": 0.6,
        } == decision.figures()  # fmt: skip
        beside = f"{number(validation)} against 0.4000 on validation, {number(test)} against 0.6000 on test."
        assert decision.reason.endswith(f"Version 2 against version 1: {beside}")
        alone = decide(Evaluated("2", new, CONTEXT), None, [], ACCURACY)
        assert (alone.promoted, alone.values["test.against"]) == (name == "better", 0.5)


def test_a_champion_from_before_is_compared_on_the_test_split(tmp_path: Path) -> None:
    new = write_evaluation(tmp_path / "new", answers(1.0), validation=answers(0.0))
    old = Evaluated("1", write_evaluation(tmp_path / "old", answers(0.5), validation={}), CONTEXT)
    decision = decide(Evaluated("2", new, CONTEXT), old, [], ACCURACY)
    assert decision.promoted
    assert decision.reason.startswith("On the test split")
    assert "evaluation of version 1 is from before promotion was decided on the validation split" in decision.reason
    assert "validation.new" not in decision.values


def test_a_metric_that_was_not_measured_on_the_validation_split_names_the_setting(tmp_path: Path) -> None:
    new = write_evaluation(tmp_path / "new", answers(1.0))
    for champion in (None, Evaluated("1", write_evaluation(tmp_path / "old", answers(0.5)), CONTEXT)):
        decision = decide(Evaluated("2", new, CONTEXT), champion, [], PromotionSettings("steering", DRAWS))
        assert decision.verdict == "not compared"
        assert "version 2 did not measure it on the validation split: set the evaluation's `validation_metric` to"\
            " steering too" in decision.reason  # fmt: skip


def test_only_shared_cases_count(tmp_path: Path) -> None:
    shared_new, shared_old = answers(0.5), answers(0.5)
    easy = answers(1.0, start=100, conversations=200)
    decision = against(tmp_path, shared_new | easy, shared_old | answers(0.0, start=400))
    assert decision.verdict == "not better"
    assert decision.figures()["cases"] == len(shared_new)
    assert decision.figures()["difference"] == 0


def test_other_cases_cannot_be_compared(tmp_path: Path) -> None:
    decision = against(tmp_path, answers(1.0), answers(0.0, start=100))
    assert decision.verdict == "not compared"
    assert "share none of its cases; version 1 stays champion" in decision.reason
    assert decision.difference is None


@pytest.mark.parametrize(
    ("different", "metric", "context", "sentence"),
    [
        ({"test_split": "another"}, "bits_per_byte.accepted", CONTEXT, "other validation splits"),
        ({"markers": "before"}, "bits_per_byte.accepted", CONTEXT, "reads a verdict before its turn"),
        ({}, "preference_accuracy", 512, "`max_context_tokens` 512 and 1024"),
        (
            {"metric": "bits_per_byte", "left_out": {"steering": "it saw no rejected turn"}},
            "steering",
            CONTEXT,
            "the evaluation of version 2 excludes it, because it saw no rejected turn",
        ),
    ],
)
def test_an_incomparable_version_is_not_promoted(
    tmp_path: Path, different: dict[str, str], metric: str, context: int, sentence: str
) -> None:
    settings = PromotionSettings(metric, DRAWS)
    old = write_evaluation(tmp_path / "old", answers(0.5), metric=metric)
    new = write_evaluation(tmp_path / "new", answers(1.0), **{"metric": metric, **different})  # type: ignore[arg-type]
    decision = decide(Evaluated("2", new, context), Evaluated("1", old, CONTEXT), [], settings)
    assert decision.verdict == "not compared"
    assert sentence in decision.reason
    assert decision.reason.endswith("version 1 stays champion.")


def test_a_champion_without_an_evaluation_stays(tmp_path: Path) -> None:
    new = write_evaluation(tmp_path, answers(1.0))
    champion = Evaluated("1", None, missing="the evaluation of version 1 is no longer there")
    decision = decide(Evaluated("2", new, CONTEXT), champion, [], ACCURACY)
    assert decision.verdict == "not compared"
    assert "no longer there; version 1 stays champion" in decision.reason


def test_one_conversation_is_not_enough(tmp_path: Path) -> None:
    decision = against(tmp_path, {"c": 1.0}, {"c": 0.0})
    assert decision.verdict == "not compared"
    assert "their shared cases have no interval (one conversation)" in decision.reason


@pytest.mark.parametrize(
    ("failed", "perplexity", "named"),
    [
        (["nothing_lost of utterances"], (2.0, 3.0), "nothing_lost of utterances"),
        ([], (3.0, 3.0), "learned_something"),
        ([], (float("inf"), 3.0), "learned_something"),
    ],
)
def test_a_failed_check_prevents_promotion(
    tmp_path: Path, failed: list[str], perplexity: tuple[float, float], named: str
) -> None:
    new = write_evaluation(tmp_path / "new", answers(1.0), perplexity=perplexity)
    old = Evaluated("1", write_evaluation(tmp_path / "old", answers(0.0)), CONTEXT)
    for champion, stays in ((old, "version 1 stays champion"), (None, "there is still no champion")):
        decision = decide(Evaluated("2", new, CONTEXT), champion, failed, ACCURACY)
        assert decision.verdict == "check failed"
        assert named in decision.reason
        assert stays in decision.reason


def test_the_champion_is_not_compared_with_itself(tmp_path: Path) -> None:
    new = Evaluated("1", write_evaluation(tmp_path, answers(1.0)), CONTEXT)
    assert decide(new, new, [], ACCURACY).verdict == "champion already"


def test_the_metric_is_one_that_can_be_paired() -> None:
    assert {kind.promoted_by for kind in KINDS.values()} <= set(DIRECTIONS)
    with pytest.raises(PipelineError, match=r"`metric` is 'perplexity'; use one of preference"):
        PromotionSettings("perplexity")


@pytest.mark.parametrize("difference", [{"value": 0.1, "unknown": 1}, {"value": 0.1}, []])
def test_a_damaged_decision_is_a_sentence(tmp_path: Path, difference: object) -> None:
    record = {"verdict": "promoted", "version": "2", "against": "version 1", "metric": "m", "reason": "", "values": {}}
    (tmp_path / DECISION).write_text(json.dumps({**record, "difference": difference}))
    with pytest.raises(DamagedError, match=r"decision\.json is damaged"):
        read_decision(tmp_path)
    (tmp_path / DECISION).write_text(json.dumps({**record, "difference": None}))
    assert read_decision(tmp_path).verdict == "promoted"
