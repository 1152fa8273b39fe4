"""Measures on cases made by hand, whose answers are known."""

import math

import numpy as np
import pytest

from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.cases.case_sets import Contrasts, Improvements, Pairs, Steerings, Turns
from adc_pipeline.evaluation.measures import Measured

BETTER_BYTES, WORSE_BYTES = np.array([10, 5, 7, 30]), np.array([4, 9, 7, 1])
PAIRS = Pairs(
    conversation=np.array([0, 0, 1, 2]),
    case=np.array(["a>b", "a>c", "d>e", "f>g"]),
    better=np.array([0, 0, 2, 4]),
    worse=np.array([1, 3, 5, 6]),
    better_bytes=BETTER_BYTES,
    worse_bytes=WORSE_BYTES,
    gap=np.array([1, 3, 4, 100]),
    within_hour=np.array([True, False, True, False]),
    later_doubled=np.array([False] * 4),
    dialogrpt=np.array([False, False, False, True]),
    time_matched=np.array([True, False, False, False]),
    speaker_free=np.array([False] * 4),
    better_time=np.zeros(4, dtype=np.int64),
    worse_time=np.zeros(4, dtype=np.int64),
    better_speaker=np.zeros(4),
    worse_speaker=np.zeros(4),
)


def values(measured: list[Measured]) -> dict[str, tuple[float | None, int]]:
    estimates = {each.name: measures.estimates([each], draws=100, seed=0)[0] for each in measured}
    return {name: (estimate.value, estimate.cases) for name, estimate in estimates.items()}


def test_a_scorer_of_length_gets_what_length_alone_gets() -> None:
    """3 of 4: one longer better reply loses, one tie counts half."""
    length = measures.preference_accuracy(PAIRS, BETTER_BYTES, WORSE_BYTES)
    assert values(length)["preference_accuracy"] == (2.5 / 4, 4)
    scorer = measures.preference_accuracy(PAIRS, 0.01 * BETTER_BYTES - 7, 0.01 * WORSE_BYTES - 7)
    assert values(scorer) == values(length)


def test_a_perfect_scorer_gets_one_its_opposite_zero_a_constant_one_half() -> None:
    for better, worse, expected in ((1.0, -1.0, 1.0), (-1.0, 1.0, 0.0), (2.0, 2.0, 0.5), (2.0, 2.0 + 1e-6, 0.5)):
        measured = measures.preference_accuracy(PAIRS, np.full(4, better), np.full(4, worse))
        assert values(measured)["preference_accuracy"] == (expected, 4)


def test_readings_of_preference_accuracy_take_their_pairs_only() -> None:
    measured = values(measures.preference_accuracy(PAIRS, BETTER_BYTES, WORSE_BYTES))
    assert measured["preference_accuracy.within_hour"] == (0.75, 2)
    assert measured["preference_accuracy.later_doubled"] == (None, 0)
    assert measured["preference_accuracy.dialogrpt"] == (1.0, 1)
    gaps = {name.rsplit(".", 1)[1]: found for name, found in measured.items() if ".gap" in name}
    assert gaps == {
        "gap1": (1.0, 1),
        "gap2-3": (0.0, 1),
        "gap4-7": (0.5, 1),
        "gap8-15": (None, 0),
        "gap16plus": (1.0, 1),
    }


def test_steering_compares_what_a_rejection_does_to_a_sibling_and_to_a_reply() -> None:
    steerings = Steerings(
        conversation=np.array([0, 1, 2]),
        case=np.array(["x", "y", "z"]),
        sibling_if_rejected=np.array([0, 4, 8]),
        sibling_if_accepted=np.array([1, 5, 9]),
        reply_if_rejected=np.array([2, 6, 10]),
        reply_if_accepted=np.array([3, 7, 11]),
        sibling_bytes=np.array([30, 10, 20]),
        reply_bytes=np.array([20, 10, 25]),
    )
    # x: the sibling gains 5 by the rejection, the reply loses 5. y: both gain 1. z: the reply gains more.
    nats = -np.array([10.0, 15, 12, 7, 3, 4, 8, 9, 5, 6, 2, 9])
    measured = measures.steering(steerings, nats)
    assert measured.value.tolist() == [1, 0.5, 0]
    # A model whose rejections make every text likelier by one nat per byte, whatever its content.
    shift = np.zeros(12)
    shift[steerings.sibling_if_rejected], shift[steerings.reply_if_rejected] = [30, 10, 20], [20, 10, 25]
    content_free = measures.steering(steerings, shift).value
    assert measures.length_steering(steerings).value.tolist() == content_free.tolist() == [1, 0.5, 0]


def test_a_perplexity_without_an_interval_keeps_the_reason() -> None:
    alike = Measured("perplexity", np.arange(30), np.full(30, "a"), np.ones(30), np.ones(30), exponential=True)
    (found,) = measures.estimates([alike], draws=100, seed=0)
    assert (found.value, found.low, found.refused) == (pytest.approx(math.e), None, "30 conversations alike")


def test_bits_per_byte_and_perplexity_by_verdict() -> None:
    turns = Turns(
        conversation=np.array([0, 0, 1]),
        case=np.array(["0/a", "0/b", "0/c"]),
        turn=np.array([2, 1, 0]),
        bytes=np.array([4, 8, 2]),
        accepted=np.array([True, False, True]),
        before=np.array([0, 2, 1]),
    )
    bits = np.array([6.0, 8.0, 12.0])
    measured = values(measures.bits_per_byte(turns, -bits * math.log(2), np.array([3, 2, 3])))
    assert measured["bits_per_byte"] == (pytest.approx(26 / 14), 3)
    assert measured["bits_per_byte.accepted"] == (pytest.approx(18 / 6), 2)
    assert measured["bits_per_byte.rejected"] == (pytest.approx(8 / 8), 1)
    assert measured["perplexity"] == (pytest.approx(2 ** (26 / 8)), 3)
    assert measured["perplexity.accepted"] == (pytest.approx(2 ** (18 / 6)), 2)


def test_in_context_improvement_is_negative_where_rejected_siblings_help() -> None:
    """Three turns with 1, 2 and 7 rejected siblings; of the second, also the row that shows one."""
    improvements = Improvements(
        conversation=np.array([0, 1, 1, 2]),
        case=np.array(["0/a", "0/b/1", "0/b", "0/c"]),
        left_in=np.array([0, 6, 2, 4]),
        taken_out=np.array([1, 3, 3, 5]),
        every=np.array([0, 2, 2, 4]),
        strange=np.array([7, 8, 8, -1]),
        bytes=np.array([10, 10, 10, 20]),
        k=np.array([1, 2, 2, 7]),
        shown=np.array([1, 1, 2, 7]),
    )
    bits = np.array([20.0, 25, 30, 20, 40, 60, 16, 22, 21])
    measured = values(measures.in_context_improvement(improvements, -bits * math.log(2)))
    assert {name: found for name, found in measured.items() if found[1]} == {
        "in_context_improvement": (pytest.approx((-5 + 10 - 20) / 40), 3),
        "in_context_improvement.k1": (pytest.approx(-0.5), 1),
        "in_context_improvement.k2.shown1": (pytest.approx(-0.4), 1),
        "in_context_improvement.k2": (pytest.approx(1.0), 1),
        "in_context_improvement.k4plus": (pytest.approx(-1.0), 1),
        "in_context_improvement.stranger": (pytest.approx((-3 + 1) / 20), 2),
        "in_context_improvement.own_minus_stranger": (pytest.approx((-2 + 9) / 20), 2),
    }


def test_the_rejection_contrast_is_what_the_better_sibling_gains_over_the_worse_and_over_a_stranger() -> None:
    contrasts = Contrasts(
        conversation=np.array([0, 1]),
        case=np.array(["b:a>c", "e:d>f"]),
        better=np.array([0, 6]),
        worse=np.array([1, 7]),
        better_after_own=np.array([2, 8]),
        worse_after_own=np.array([3, 9]),
        better_after_stranger=np.array([4, 10]),
        worse_after_stranger=np.array([5, 11]),
        better_bytes=np.array([10, 20]),
        worse_bytes=np.array([10, 60]),
    )
    # The first: own gains 4 and loses 1, a stranger gains both 2. The second: all gain alike per byte.
    bits = np.array([30.0, 20, 26, 21, 28, 18, 60, 90, 50, 60, 40, 30])
    measured = values(measures.rejection_contrast(contrasts, -bits * math.log(2)))
    # Weights: the harmonic means 10 and 30.
    assert measured == {
        "rejection_contrast": (pytest.approx(0.5 * 10 / 40), 2),
        "rejection_contrast.own": (pytest.approx(0.5 * 10 / 40), 2),
        "rejection_contrast.stranger": (pytest.approx(0.0, abs=1e-12), 2),
        "bits_per_byte.best_sibling": (pytest.approx((30 + 60) / (10 + 20)), 2),
    }


CALIBRATED = Turns(
    conversation=np.array([0, 0, 1, 1, 2]),
    case=np.array(["0/a", "0/b", "0/c", "0/d", "0/e"]),
    turn=np.array([0, 1, 2, 3, 4]),
    bytes=np.ones(5, dtype=np.int64),
    accepted=np.array([True, False, True, True, False]),
    before=np.array([0, 2, 0, 2, 2]),
)


def test_the_brier_score_is_the_mean_squared_error_and_the_best_constant_is_the_share() -> None:
    probability = np.array([1.0, 0.0, 0.5, 0.8, 0.4])
    found = values([measures.brier_score(CALIBRATED, probability)])
    assert found == {"verdict_calibration.brier": (pytest.approx((0 + 0 + 0.25 + 0.04 + 0.16) / 5), 5)}
    constant = values([measures.constant_brier_score(CALIBRATED)])["verdict_calibration.brier"][0]
    assert constant is not None
    assert constant == pytest.approx(0.6 * 0.4)
    others = [
        values([measures.brier_score(CALIBRATED, np.full(5, share))])["verdict_calibration.brier"][0]
        for share in (0.0, 0.5, 0.59, 0.61, 1.0)
    ]
    assert all(constant < other for other in others if other is not None)


def test_the_grammar_forecasts_the_share_after_the_verdict_before() -> None:
    """At the start all are accepted, after an accepted turn one of three."""
    grammar = values([measures.grammar_brier_score(CALIBRATED)])["verdict_calibration.brier"][0]
    assert grammar == pytest.approx(3 * (1 / 3) * (2 / 3) / 5)


def test_reliability_bins_by_tenths_and_the_last_has_one_in_it() -> None:
    found = values(measures.reliability(CALIBRATED, np.array([1.0, 0.05, 0.93, 0.1, 0.0])))
    assert found["verdict_calibration.predicted.bin9"] == (pytest.approx((1 + 0.93) / 2), 2)
    assert found["verdict_calibration.accepted.bin9"] == (1.0, 2)
    assert found["verdict_calibration.accepted.bin0"] == (0.0, 2)
    assert found["verdict_calibration.accepted.bin1"] == (1.0, 1)
    assert found["verdict_calibration.predicted.bin5"] == (None, 0)


def test_p_accepted_is_the_logistic_function_without_overflow() -> None:
    found = measures.p_accepted(np.array([0.0, math.log(3), -1e6, 1e6]))
    assert found.tolist() == [0.5, pytest.approx(0.75), pytest.approx(0, abs=1e-200), 1.0]
