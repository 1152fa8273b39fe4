"""The vectorised bootstrap and test equal slow loops, and keep what they promise."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.evaluation.bootstrap import (
    CHUNK,
    Estimate,
    holm,
    paired_difference,
    ratio_estimates,
    resampled_ratios,
)


def ratio_estimate(value: np.ndarray, weight: np.ndarray, conversation: np.ndarray, draws: int, seed: int) -> Estimate:
    (estimate,) = ratio_estimates(value[None], weight[None], conversation, draws, seed)
    return estimate


def test_resamples_equal_a_loop_over_conversations_and_their_cases() -> None:
    rng = random.Random(1)
    conversation = [rng.randrange(7) for _ in range(40)]
    value, weight = ([rng.random() + 0.1 for _ in range(40)] for _ in range(2))
    draws, seed = 50, 3
    present = sorted(set(conversation))
    chosen = np.random.default_rng(seed).integers(len(present), size=(draws, len(present)))
    expected = []
    for draw in chosen:
        top = bottom = 0.0
        for number in draw:
            for case in range(40):
                if conversation[case] == present[number]:
                    top += value[case]
                    bottom += weight[case]
        expected.append(top / bottom)
    low, high = np.percentile(expected, [2.5, 97.5])

    estimate = ratio_estimate(np.array(value), np.array(weight), np.array(conversation), draws, seed)

    assert estimate.value == pytest.approx(sum(value) / sum(weight))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))
    assert (estimate.cases, estimate.conversations) == (40, len(present))


def test_more_conversations_than_one_chunk_holds_give_the_same_distribution() -> None:
    size = CHUNK // 3
    values = (np.arange(size) % 2).astype(np.float64)[:, None]
    ratios = resampled_ratios(values, np.ones((size, 1)), draws=5, seed=0)
    assert ratios.shape == (5, 1)
    assert ratios == pytest.approx(0.5, abs=0.01)
    assert len(set(ratios[:, 0])) == 5


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Cases of a conversation share most of their luck, which an interval over cases would overlook."""
    rng = np.random.default_rng(0)
    conversation = np.repeat(np.arange(50), 6)
    covered = 0
    for _ in range(300):
        value = 1 + rng.normal(size=50)[conversation] + 0.2 * rng.normal(size=300)
        estimate = ratio_estimate(value, np.ones(300), conversation, draws=300, seed=0)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_too_little_to_say_is_none_rather_than_a_number() -> None:
    none = np.empty(0)
    nothing = ratio_estimate(none, none, none.astype(int), 100, 0)
    assert (nothing.value, nothing.low, nothing.high, nothing.cases, nothing.conversations) == (None, None, None, 0, 0)
    one = ratio_estimate(np.ones(3), np.full(3, 2.0), np.zeros(3, dtype=int), 100, 0)
    assert (one.value, one.low, one.high, one.cases, one.conversations) == (0.5, None, None, 3, 1)
    weightless = ratio_estimate(np.zeros(2), np.zeros(2), np.array([0, 1]), 100, 0)
    assert (weightless.value, weightless.conversations) == (None, 0)


def test_series_of_one_measure_are_resampled_together() -> None:
    """So that the interval of a difference of two series is that of the case by case difference."""
    rng = np.random.default_rng(2)
    conversation = rng.integers(9, size=60)
    values, weights = rng.random((2, 60)), np.ones((2, 60))
    together = ratio_estimates(values, weights, conversation, 400, seed=5)
    for row, found in zip(values, together, strict=True):
        alone = ratio_estimate(row, weights[0], conversation, 400, seed=5)
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_the_sign_flip_test_equals_a_count_of_all_signs() -> None:
    rng = np.random.default_rng(4)
    conversation = np.repeat(np.arange(8), 3)
    first, second = rng.random(24) + 0.05, rng.random(24)
    totals = [float((first - second)[conversation == number].sum()) for number in range(8)]
    flips = [abs(sum(sign * total for sign, total in zip(signs, totals, strict=True))) for signs in
             product((1, -1), repeat=8)]  # fmt: skip
    exact = sum(flip >= abs(sum(totals)) - 1e-12 for flip in flips) / len(flips)
    found = paired_difference(first, second, np.ones(24), conversation, draws=20_000, seed=0)
    assert 0.02 < exact < 0.9
    assert found.p == pytest.approx(exact, abs=0.015)
    assert found.value == pytest.approx(float((first - second).mean()))


def test_models_that_are_alike_are_told_apart_as_rarely_as_the_test_says() -> None:
    """Luck that all cases of a conversation share would fool a test over cases."""
    rng = np.random.default_rng(1)
    conversation = np.repeat(np.arange(30), 8)
    rejected = 0
    for _ in range(300):
        first, second = (rng.normal(size=30)[conversation] + 0.1 * rng.normal(size=240) for _ in range(2))
        p = paired_difference(first, second, np.ones(240), conversation, draws=400, seed=0).p
        assert p is not None
        rejected += p < 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_a_difference_of_one_conversation_has_no_p_value_and_none_at_all_has_one() -> None:
    ones = np.ones(3)
    assert paired_difference(ones, 0 * ones, ones, np.zeros(3, dtype=int), 100, 0).p is None
    same = paired_difference(ones, ones, ones, np.arange(3), 100, 0)
    assert (same.value, same.p) == (0, 1)


def test_holm_equals_values_computed_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04, which rises to 0.06."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(corrected) == ["a", "b", "c", "d"]
    assert holm({}) == {}
    assert holm({1: 0.5, 2: 0.6}) == {1: 1.0, 2: 1.0}


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_values_and_bonferronis_and_keeps_their_order(values: list[float]) -> None:
    p_values = dict(enumerate(values))
    corrected = holm(p_values)
    for key, p in p_values.items():
        assert p <= corrected[key] <= min(1, p * len(values))
    in_order = sorted(p_values, key=p_values.__getitem__)
    assert [corrected[key] for key in in_order] == sorted(corrected.values())
