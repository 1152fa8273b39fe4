"""The measures of the design, as arithmetic over cases and scores, without a model in sight.

Every measure is a ratio of two sums over cases, so that one bootstrap fits all: a share has value 0, ½
or 1 and weight 1; bits per byte have bits over bytes; perplexity is the exponential of nats over tokens.
What a model is compared with (the base model, reply length) goes through the same functions with other
scores, over the same cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.bootstrap import Difference, Estimate, paired_difference, ratio_estimates
from adc_pipeline.evaluation.cases import Improvements, Pairs, Steerings, Turns
from adc_pipeline.evaluation.scoring import Scores

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NATS_PER_BIT = np.log(2)

# Nats that float32 cannot tell apart over a long text: a model that ignores the markers gets ties, not luck.
TIE = 1e-4

# Score gaps of the bins of preference accuracy: the first value of each.
GAP_BINS = {"gap1": 1, "gap2-3": 2, "gap4-7": 4, "gap8-15": 8, "gap16plus": 16}
K_BINS = {"k1": 1, "k2": 2, "k3": 3, "k4plus": 4}

# Bins of the reliability curve, and what its figures are called.
BINS = 10
RELIABILITY = "verdict_calibration"


@dataclass(frozen=True)
class Measured:
    """A measure over its cases: sum(value) / sum(weight), exponentiated for a perplexity."""

    name: str
    conversation: Ints
    case: NDArray[np.str_]
    value: Floats
    weight: Floats
    exponential: bool = False


def estimates(same: Sequence[Measured], draws: int, seed: int) -> list[Estimate]:
    """The estimates of one measure for several scorers over the same cases, on the same resamples."""
    values, weights = np.stack([each.value for each in same]), np.stack([each.weight for each in same])
    found = ratio_estimates(values, weights, same[0].conversation, draws, seed)
    return [exponentiated(each) if of.exponential else each for each, of in zip(found, same, strict=True)]


def exponentiated(estimate: Estimate) -> Estimate:
    figures = (estimate.value, estimate.low, estimate.high)
    value, low, high = (None if figure is None else float(np.exp(figure)) for figure in figures)
    return Estimate(value, low, high, estimate.cases, estimate.conversations)


def difference(first: Measured, second: Measured, draws: int, seed: int) -> Difference:
    """First minus second, paired; of a measure that is not a perplexity (bits per byte say the same)."""
    return paired_difference(first.value, second.value, first.weight, first.conversation, draws, seed)


def wins(first: Floats | Ints, second: Floats | Ints) -> Floats:
    """1 where the first is larger, 0 where the second is, ½ where they are as good as equal."""
    apart = first - second
    return np.where(np.abs(apart) < TIE, 0.5, apart > 0)


def binned(values: Ints, bins: dict[str, int]) -> dict[str, Bools]:
    """Which values lie in each bin; a bin reaches up to the next one's first value."""
    place = np.searchsorted(list(bins.values()), values, side="right") - 1
    return {name: place == index for index, name in enumerate(bins)}


def preference_accuracy(pairs: Pairs, better: Floats | Ints, worse: Floats | Ints) -> list[Measured]:
    """How often what scores the replies (log-odds of the verdicts, or bytes) agrees with the people.

    Over all pairs, by score gap, and over the pairs that time does not confound: written within an hour
    (Gao et al. 2020, *Dialogue Response Ranking Training with Large-Scale Human Feedback Data*), and the
    better one later with at least twice the score (Ethayarajh et al. 2022, *Understanding Dataset
    Difficulty with V-Usable Information*).
    """
    value = wins(better, worse)
    readings = {
        "": np.ones(len(value), dtype=bool),
        ".within_hour": pairs.within_hour,
        ".later_doubled": pairs.later_doubled,
        **{f".{name}": inside for name, inside in binned(pairs.gap, GAP_BINS).items()},
    }
    return [
        Measured(
            f"preference_accuracy{name}",
            pairs.conversation[chosen],
            pairs.case[chosen],
            value[chosen],
            np.ones(chosen.sum()),
        )
        for name, chosen in readings.items()
    ]


def steering(steerings: Steerings, log_probability: Floats) -> Measured:
    """How often a rejection favours the sibling over the reply more than an acceptance does."""
    for_sibling = log_probability[steerings.sibling_if_rejected] - log_probability[steerings.sibling_if_accepted]
    for_reply = log_probability[steerings.reply_if_rejected] - log_probability[steerings.reply_if_accepted]
    value = wins(for_sibling, for_reply)
    return Measured("steering", steerings.conversation, steerings.case, value, np.ones(len(value)))


def bits_per_byte(turns: Turns, log_probability: Floats, tokens: Ints) -> list[Measured]:
    """Bits per byte and perplexity per token of the segments of all turns, the accepted, and the rejected.

    A segment is what stands between two markers, speaker line included; the markers are not in it. Bits
    per byte compare models whatever their tokenizers, perplexities only models with the same one.
    """
    nats = -log_probability[turns.turn]
    measured = []
    for name, chosen in (
        ("", np.ones(len(nats), dtype=bool)),
        (".accepted", turns.accepted),
        (".rejected", ~turns.accepted),
    ):
        of = (turns.conversation[chosen], turns.case[chosen])
        bits, counts = nats[chosen] / NATS_PER_BIT, tokens[turns.turn][chosen].astype(float)
        measured += [
            Measured(f"bits_per_byte{name}", *of, bits, turns.bytes[chosen].astype(float)),
            Measured(f"perplexity{name}", *of, nats[chosen], counts, exponential=True),
        ]
    return measured


def in_context_improvement(improvements: Improvements, log_probability: Floats) -> list[Measured]:
    """Bits per byte of accepted turns with the k rejected siblings before them, minus without; by k.

    Negative is improvement (the in-context curve of Laskin et al. 2022, *In-context Reinforcement
    Learning with Algorithm Distillation*).
    """
    nats = log_probability[improvements.taken_out] - log_probability[improvements.left_in]
    readings = {"": np.ones(len(nats), dtype=bool)} | {
        f".{name}": inside for name, inside in binned(improvements.k, K_BINS).items()
    }
    return [
        Measured(
            f"in_context_improvement{name}",
            improvements.conversation[chosen],
            improvements.case[chosen],
            nats[chosen] / NATS_PER_BIT,
            improvements.bytes[chosen].astype(float),
        )
        for name, chosen in readings.items()
    ]


def p_accepted(log_odds: Floats) -> Floats:
    """P(accepted) among the two verdicts."""
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


def brier_score(turns: Turns, probability: Floats) -> Measured:
    """Mean of (P(accepted) − 1 or 0)² over the turns of the walks; `probability` is (turns,).

    Brier 1950, *Verification of forecasts expressed in terms of probability*. 0 is perfect.
    """
    value = (probability - turns.accepted) ** 2
    return Measured("verdict_calibration.brier", turns.conversation, turns.case, value, np.ones(len(value)))


def constant_brier_score(turns: Turns) -> Measured:
    """What the best constant gets: the share of accepted turns, whatever the turn."""
    share = turns.accepted.mean() if len(turns.accepted) else 0.5
    return brier_score(turns, np.full(len(turns.accepted), share))


def reliability(turns: Turns, probability: Floats) -> list[Measured]:
    """By tenths of P(accepted): what was predicted in the mean, and the share that was accepted.

    A calibrated model's two figures agree in every bin. Bins are of equal width; which turns lie in one
    depends on the model (Murphy and Winkler 1977, *Reliability of subjective probability forecasts*).
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    measured = []
    for bin in range(BINS):
        chosen = place == bin
        of = (turns.conversation[chosen], turns.case[chosen])
        ones = np.ones(int(chosen.sum()))
        measured += [
            Measured(f"{RELIABILITY}.predicted.bin{bin}", *of, probability[chosen], ones),
            Measured(f"{RELIABILITY}.accepted.bin{bin}", *of, turns.accepted[chosen].astype(float), ones),
        ]
    return measured


def all_measures(cases_of: tuple[Pairs, Steerings, Turns, Improvements], scores: Scores) -> list[Measured]:
    """Every measure of one model but the reliability curve, whose cases differ between models.

    In the order of the report.
    """
    pairs, steerings, turns, improvements = cases_of
    return [
        *preference_accuracy(pairs, scores.log_odds[pairs.better], scores.log_odds[pairs.worse]),
        steering(steerings, scores.log_probability),
        *in_context_improvement(improvements, scores.log_probability),
        brier_score(turns, p_accepted(scores.log_odds[turns.turn])),
        *bits_per_byte(turns, scores.log_probability, scores.tokens),
    ]
