"""Baselines: what they score, and which figures are no baselines."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from adc_pipeline.evaluation.baselines import BASELINES, baseline_series, informative, reply_texts
from adc_pipeline.evaluation.cases.case_sets import Pairs
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.intervals.significance import paired_difference, paired_differences_from
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scores

REPLIES = ("long and good", "bad", "fine", "Größe")


def pairs_of(**others: Any) -> Pairs:
    """Two pairs: 0 > 1 and 2 > 3, by numbers of `REPLIES`."""
    two = np.zeros(2, dtype=np.int64)
    known: dict[str, Any] = {each.name: two for each in fields(Pairs)}
    sizes = np.array([len(each.encode()) for each in REPLIES])
    known |= {"case": np.array(["a>b", "c>d"]), "better": np.array([0, 2]), "worse": np.array([1, 3])}
    known |= {"better_bytes": sizes[[0, 2]], "worse_bytes": sizes[[1, 3]]}
    known |= dict.fromkeys(("within_hour", "later_doubled", "dialogrpt", "time_matched"), two == 0)
    return Pairs(**(known | {"speaker_free": two == 1} | others))


def cases_of(pairs: Pairs) -> Cases:
    queries = [Query("post", (), f"ann\n{text}") for text in REPLIES]
    others: Any = None
    return Cases(
        ["c"], ["s"], 1, queries, None, np.ones(4, dtype=bool), pairs, others, others, others, others, [], others
    )  # fmt: skip


def scores_of(log_probability: list[float]) -> Scores:
    none = np.zeros(4)
    return Scores(np.array(log_probability), none, none, none == 0, none == 1, none)  # type: ignore[arg-type]


def test_each_baseline_prefers_what_it_is_named_for() -> None:
    pairs = pairs_of(
        better_time=np.array([5, 9]), worse_time=np.array([7, 7]),
        better_speaker=np.array([2.5, 1.0]), worse_speaker=np.array([1.0, 1.0]),
    )  # fmt: skip
    # Per byte of the segment, speaker line included: −1, −2, −3, −1.
    likely = scores_of([-len(f"ann\n{text}".encode()) * each for text, each in zip(REPLIES, (1, 2, 3, 1), strict=True)])
    asked: list[list[str]] = []

    def words(queries: Any, texts: Any) -> Any:
        asked.append(list(texts))
        return np.array([0.0, 1.0, 2.0, 0.0])

    series = baseline_series(cases_of(pairs), pairs, likely, {"words": words})
    values = {name: measured[0].value.tolist() for name, measured in series.items()}
    assert values == {
        "length": [1, 0], "time": [1, 0], "speaker": [1, 0.5], "likelihood": [1, 0], "words": [0, 1],
    }  # fmt: skip
    assert asked == [list(REPLIES)]
    assert list(series) == [name for name in BASELINES if name in series]


def test_what_decides_no_pair_is_no_baseline() -> None:
    pairs = pairs_of()
    assert list(baseline_series(cases_of(pairs), pairs, scores_of([0] * 4), {})) == ["length"]
    none = pairs_of(**{each.name: np.array([], dtype=np.int64) for each in fields(Pairs)})
    assert baseline_series(cases_of(none), none, scores_of([0] * 4), {}) == {}


def test_texts_come_without_the_speakers_line() -> None:
    pairs = pairs_of()
    queries = [Query("post", (), f"a speaker\n{text}") for text in REPLIES]
    assert reply_texts(queries, np.arange(4), pairs) == list(REPLIES)


@pytest.mark.parametrize(
    ("name", "estimate", "shown"),
    [
        ("preference_accuracy", Estimate(0.5, 0.5, 0.5, 100, 30), False),
        ("preference_accuracy.within_hour", Estimate(0.5, None, None, 9, 5, refused="5 conversations alike"), False),
        ("preference_accuracy", Estimate(0.5, 0.45, 0.55, 100, 30), True),
        ("steering", Estimate(0.5, 0.5, 0.5, 100, 30), False),
        ("verdict_calibration.brier", Estimate(0.25, 0.25, 0.25, 100, 30), False),
        ("bits_per_byte", Estimate(0.5, 0.5, 0.5, 100, 30), True),
        ("preference_accuracy", Estimate(None, None, None, 0, 0), True),
    ],
)
def test_a_base_model_that_only_ties_is_no_baseline(name: str, estimate: Estimate, shown: bool) -> None:
    assert list(informative({name: estimate})) == [name] * shown


def test_differences_made_together_are_those_made_alone() -> None:
    dice = np.random.default_rng(0)
    first, others, conversation = dice.random(90), dice.random((3, 90)), np.arange(90) % 30
    weight = dice.random(90) + 0.5
    for other, found in zip(others, paired_differences_from(first, others, weight, conversation, 300, 7), strict=True):
        alone = paired_difference(first, other, weight, conversation, 300, 7)
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))
        assert (found.p, found.cases, found.conversations) == (alone.p, 90, 30)
