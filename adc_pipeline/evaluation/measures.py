"""The measures of the design, as arithmetic over cases and scores, without a model in sight.

Every measure is a ratio of two sums over cases, so that one bootstrap fits all: a share has value 0, ½
or 1 and weight 1; bits per byte have bits over bytes; perplexity is the exponential of nats over tokens.
What a model is compared with (the base model, reply length) goes through the same functions with other
scores, over the same cases.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.bootstrap import Estimate, ratio_estimate
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


@dataclass(frozen=True)
class Measured:
    """A measure over its cases: sum(value) / sum(weight), exponentiated for a perplexity."""

    name: str
    conversation: Ints
    case: NDArray[np.str_]
    value: Floats
    weight: Floats
    exponential: bool = False

    def estimate(self, draws: int, seed: int) -> Estimate:
        """With its 95 % bootstrap interval over conversations; see `bootstrap.py`."""
        ratio = ratio_estimate(self.value, self.weight, self.conversation, draws, seed)
        if not self.exponential or ratio.value is None:
            return ratio
        low, high = (None if bound is None else float(np.exp(bound)) for bound in (ratio.low, ratio.high))
        return Estimate(float(np.exp(ratio.value)), low, high, ratio.cases, ratio.conversations)


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


def all_measures(cases_of: tuple[Pairs, Steerings, Turns, Improvements], scores: Scores) -> list[Measured]:
    """Every measure of one model, in the order of the report."""
    pairs, steerings, turns, improvements = cases_of
    return [
        *preference_accuracy(pairs, scores.log_odds[pairs.better], scores.log_odds[pairs.worse]),
        steering(steerings, scores.log_probability),
        *in_context_improvement(improvements, scores.log_probability),
        *bits_per_byte(turns, scores.log_probability, scores.tokens),
    ]
