"""The vectorised sign-flip test equals a count of all signs, and Holm's correction a computation by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.evaluation.intervals.significance import holm, paired_difference


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


def test_equal_models_differ_significantly_at_the_level_of_the_test() -> None:
    """Noise that all cases of a conversation share would mislead a test over cases."""
    rng = np.random.default_rng(1)
    conversation = np.repeat(np.arange(30), 8)
    rejected = 0
    for _ in range(300):
        first, second = (rng.normal(size=30)[conversation] + 0.1 * rng.normal(size=240) for _ in range(2))
        p = paired_difference(first, second, np.ones(240), conversation, draws=400, seed=0).p
        assert p is not None
        rejected += p < 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_one_conversation_has_no_p_value_and_no_difference_has_the_p_value_one() -> None:
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
