"""The vectorised bootstrap equals a slow loop, and its intervals cover what they should."""

import random

import numpy as np
import pytest

from adc_pipeline.evaluation.bootstrap import CHUNK, ratio_estimate, resampled_ratios


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
    ratios = resampled_ratios((np.arange(size) % 2).astype(np.float64), np.ones(size), draws=5, seed=0)
    assert ratios == pytest.approx(0.5, abs=0.002)
    assert len(set(ratios)) == 5


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
