"""The measures, as ratio estimators over test cases: sum(value) / sum(weight).

One form for all measures lets one bootstrap and one test serve them all: a share has the value 0, ½ or 1 and the
weight 1, bits per byte have bits over bytes, and perplexity is the exponential of nats over tokens. Baselines (the base
model, reply length) pass through the same functions with other scores, over the same cases. Nothing here needs a model.

| measure | textbook name | source |
| --- | --- | --- |
| `preference_accuracy` | pairwise ranking accuracy, ties count ½ (probability of concordance) | Gao et al. 2020 |
| `steering` | the same, of a difference in differences of log-probabilities | the project's own |
| `in_context_improvement` | paired difference of cross-entropies | Laskin et al. 2022 |
| `rejection_contrast` | difference in differences of cross-entropies | the project's own |
| `verdict_calibration.brier` | Brier score | Brier 1950 |
| `verdict_calibration.*.bin*` | reliability diagram with bins of equal width | Murphy and Winkler 1977 |
| `bits_per_byte`, `perplexity` | cross-entropy per byte; exponential of the cross-entropy per token | Shannon 1951 |
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.arrays import Bools, Floats, Ints
from adc_pipeline.evaluation.cases.case_sets import MOST_SHOWN, Contrasts, Improvements, Pairs, Steerings, Turns
from adc_pipeline.evaluation.headlines import HEADLINES
from adc_pipeline.evaluation.intervals.bootstrap import ratio_estimates
from adc_pipeline.evaluation.intervals.estimate import Difference, Estimate
from adc_pipeline.evaluation.intervals.significance import paired_difference
from adc_pipeline.evaluation.scoring.likelihoods import Scores, p_accepted

NATS_PER_BIT = np.log(2)

# Nats that float32 cannot resolve over a long text: a model that ignores the markers ties instead of winning by noise.
TIE = 1e-4

# First score gap of each bin of preference accuracy, and first number of rejected siblings of each bin of the curve.
GAP_BINS = {"gap1": 1, "gap2-3": 2, "gap4-7": 4, "gap8-15": 8, "gap16plus": 16}
K_BINS = {"k1": 1, "k2": 2, "k3": 3, "k4plus": 4}
# The curve of in-context improvement: by number of rejected siblings, how many of them are shown (None: all).
CURVE: dict[str, tuple[str, int | None]] = {
    f"{name}.shown{shown}" if shown else name: (name, shown)
    for name, k in K_BINS.items()
    for shown in (*range(1, min(k, MOST_SHOWN + 1)), None)
}

# Bins of the reliability diagram, and the prefix of its figures.
BINS = 10
RELIABILITY = "verdict_calibration"

# The measures, one for each ability, that test a model against its base model; Holm's correction covers them all. The
# base model writes no replies.
UNTESTED = ("bits_per_byte", "perplexity", "policy_improvement", "policy_improvement.minus_yoked")
TESTED = tuple(name for name in HEADLINES if name not in UNTESTED)


def family(measure: str) -> str:
    """Return the measure that a reading belongs to: `preference_accuracy` of `preference_accuracy.within_hour`."""
    return measure.split(".")[0]


class CaseSets(NamedTuple):
    """The test cases of all measures."""

    pairs: Pairs
    steerings: Steerings
    turns: Turns
    improvements: Improvements
    contrasts: Contrasts


@dataclass(frozen=True)
class Measured:
    """A measure case by case; all arrays are (cases,). `exponential` marks a perplexity."""

    name: str
    conversation: Ints
    case: NDArray[np.str_]
    value: Floats
    weight: Floats
    exponential: bool = False


def estimates(series: Sequence[Measured], draws: int, seed: int) -> list[Estimate]:
    """Estimate one measure for several scorers of the same cases, on the same resamples."""
    values, weights = np.stack([each.value for each in series]), np.stack([each.weight for each in series])
    found = ratio_estimates(values, weights, series[0].conversation, draws, seed)
    return [exponentiated(each) if of.exponential else each for each, of in zip(found, series, strict=True)]


def exponentiated(estimate: Estimate) -> Estimate:
    figures = (estimate.value, estimate.low, estimate.high)
    value, low, high = (None if figure is None else float(np.exp(figure)) for figure in figures)
    return replace(estimate, value=value, low=low, high=high)


def difference(first: Measured, second: Measured, draws: int, seed: int) -> Difference:
    """Return first minus second, paired; not for a perplexity, whose logarithm bits per byte give."""
    return paired_difference(first.value, second.value, first.weight, first.conversation, draws, seed)


def wins(first: Floats | Ints, second: Floats | Ints) -> Floats:
    """Return 1 where the first is larger, 0 where the second is, ½ where they tie."""
    apart = first - second
    return np.where(np.abs(apart) < TIE, 0.5, apart > 0)


def binned(values: Ints, bins: dict[str, int]) -> dict[str, Bools]:
    """Return by bin which values lie in it; a bin ends before the first value of the next."""
    place = np.searchsorted(list(bins.values()), values, side="right") - 1
    return {name: place == index for index, name in enumerate(bins)}


def preference_accuracy(pairs: Pairs, better: Floats | Ints, worse: Floats | Ints) -> list[Measured]:
    """Pairwise ranking accuracy: the share of pairs in which the better-scored reply gets the higher value.

    `better` and `worse`, (pairs,), are the replies' values: log-odds of the verdicts, or bytes. Readings: all pairs;
    pairs by score gap; pairs written within an hour of each other; pairs whose better reply is the later one and has at
    least twice the score (Ethayarajh et al. 2022, *Understanding Dataset Difficulty with V-Usable Information*); the
    pairs of DialogRPT (Gao et al. 2020, *Dialogue Response Ranking Training with Large-Scale Human Feedback Data*):
    neighbours in time within an hour, with a score gap of at least 20 and a gap of at least 0.5 between the scores'
    places among the distinct scores of all siblings, which are numbered from 0 to 1; pairs within an hour that are
    matched on time, of which "the earlier one is better" decides about half rightly; pairs of speakers with the same
    mean score in training, mostly none.
    """
    value = wins(better, worse)
    readings = {
        "": np.ones(len(value), dtype=bool),
        ".within_hour": pairs.within_hour,
        ".later_doubled": pairs.later_doubled,
        ".time_matched": pairs.time_matched,
        ".speaker_free": pairs.speaker_free,
        ".dialogrpt": pairs.dialogrpt,
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
    """Difference in differences: the share of turns whose rejection favours a sibling over a reply more than its
    acceptance does. `log_probability` is (queries,).
    """
    for_sibling = log_probability[steerings.sibling_if_rejected] - log_probability[steerings.sibling_if_accepted]
    for_reply = log_probability[steerings.reply_if_rejected] - log_probability[steerings.reply_if_accepted]
    value = wins(for_sibling, for_reply)
    return Measured("steering", steerings.conversation, steerings.case, value, np.ones(len(value)))


def length_steering(steerings: Steerings) -> Measured:
    """Return what steering is for a model that ignores content: the share of cases whose sibling is the longer text.

    If a rejection shifts every text's log-probability by the same amount per byte, the lengths of sibling and reply
    decide: the share is this where the shift is upwards, and one minus this where it is downwards. Chance is therefore
    not 0.5.
    """
    value = wins(steerings.sibling_bytes, steerings.reply_bytes)
    return Measured("steering", steerings.conversation, steerings.case, value, np.ones(len(value)))


def bits_per_byte(turns: Turns, log_probability: Floats, tokens: Ints) -> list[Measured]:
    """Cross-entropy in bits per byte, and perplexity per token, of all turns, of accepted and of rejected ones.

    `log_probability` and `tokens` are (queries,). A turn's segment is its speaker line and text, without the marker.
    Bits per byte compare models with any tokenizers, perplexities only models with the same one.
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
    """Paired difference of cross-entropies, in bits per byte: accepted turns with rejected siblings before them in the
    context, minus without; over all turns, and by the number k of siblings and how many of them are shown.

    Negative is improvement. The curve is that of Laskin et al. 2022, *In-context Reinforcement Learning with Algorithm
    Distillation*: `kK.shownJ` and `kK` are of the same turns, so that a curve for one k does not mix populations.
    `stranger` has replies of other conversations in place of the siblings; `own_minus_stranger` is what remains of the
    improvement. `log_probability` is (queries,).
    """
    asked = improvements
    without, own, strange = (log_probability[each] for each in (asked.taken_out, asked.left_in, asked.strange))
    every = asked.shown == asked.k
    controlled = every & (asked.strange >= 0)
    by_k = binned(asked.k, K_BINS)
    readings = {
        "": (every, without - own),
        **{
            f".{name}": (by_k[k] & (every if shown is None else ~every & (asked.shown == shown)), without - own)
            for name, (k, shown) in CURVE.items()
        },
        ".stranger": (controlled, without - strange),
        ".own_minus_stranger": (controlled, strange - own),
    }
    return [
        Measured(
            f"in_context_improvement{name}",
            asked.conversation[chosen],
            asked.case[chosen],
            nats[chosen] / NATS_PER_BIT,
            asked.bytes[chosen].astype(float),
        )
        for name, (chosen, nats) in readings.items()
    ]


def rejection_contrast(contrasts: Contrasts, log_probability: Floats) -> list[Measured]:
    """Difference in differences of cross-entropies, in bits per byte: what a rejected reply in the context gains for a
    better sibling, minus what it gains for a worse one; where it is a sibling of theirs (`own`), where it is a
    `stranger`, and own minus stranger.

    A gain is the log-probability with the rejected reply minus without it. Above 0, the model reads what was rejected:
    it expects a better reply after a worse one. Every case weighs the harmonic mean of the two lengths, in which the
    noise of a difference of two figures per byte is inverse. `bits_per_byte.best_sibling` is the cross-entropy of the
    better siblings without a rejected reply anywhere before them. `log_probability` is (queries,).
    """
    weight = 2 / (1 / contrasts.better_bytes + 1 / contrasts.worse_bytes)

    def contrast(better: Ints, worse: Ints) -> Floats:
        gains = (
            (log_probability[after] - log_probability[alone]) / size
            for after, alone, size in (
                (better, contrasts.better, contrasts.better_bytes),
                (worse, contrasts.worse, contrasts.worse_bytes),
            )
        )
        first, second = gains
        return weight * (first - second) / NATS_PER_BIT

    own = contrast(contrasts.better_after_own, contrasts.worse_after_own)
    stranger = contrast(contrasts.better_after_stranger, contrasts.worse_after_stranger)
    best = Measured(
        "bits_per_byte.best_sibling",
        contrasts.conversation,
        contrasts.case,
        -log_probability[contrasts.better] / NATS_PER_BIT,
        contrasts.better_bytes.astype(float),
    )
    return [
        *(
            Measured(f"rejection_contrast{name}", contrasts.conversation, contrasts.case, value, weight)
            for name, value in (("", own - stranger), (".own", own), (".stranger", stranger))
        ),
        best,
    ]


def brier_score(turns: Turns, probability: Floats) -> Measured:
    """Brier score: the mean of (P(accepted) − outcome)² over the turns of the walks; 0 is perfect.

    Brier 1950, *Verification of forecasts expressed in terms of probability*. `probability` is (turns,).
    """
    value = (probability - turns.accepted) ** 2
    return Measured("verdict_calibration.brier", turns.conversation, turns.case, value, np.ones(len(value)))


def constant_brier_score(turns: Turns) -> Measured:
    """Brier score of the best constant forecast (climatology): the share of accepted turns."""
    share = turns.accepted.mean() if len(turns.accepted) else 0.5
    return brier_score(turns, np.full(len(turns.accepted), share))


def grammar_brier_score(turns: Turns) -> Measured:
    """Brier score of the best forecast from the verdict before alone: the share of accepted turns after each verdict.

    The grammar of a walk alone tells much of a verdict: in top-2 no rejected turn follows another.
    """
    shares = np.zeros(len(turns.accepted))
    for before in np.unique(turns.before):
        same = turns.before == before
        shares[same] = turns.accepted[same].mean()
    return brier_score(turns, shares)


def reliability(turns: Turns, probability: Floats) -> list[Measured]:
    """Reliability diagram: by tenths of P(accepted), the mean forecast and the share of accepted turns.

    A calibrated model's two figures agree in each bin. Which turns a bin holds depends on the model. Murphy and Winkler
    1977, *Reliability of subjective probability forecasts of precipitation and temperature*.
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


def all_measures(cases: CaseSets, scores: Scores) -> list[Measured]:
    """Return all measures of one model in the order of the report.

    The reliability diagram is not among them: its cases differ between models.
    """
    pairs, steerings, turns, improvements, contrasts = cases
    return [
        *preference_accuracy(pairs, scores.log_odds[pairs.better], scores.log_odds[pairs.worse]),
        steering(steerings, scores.log_probability),
        *in_context_improvement(improvements, scores.log_probability),
        *rejection_contrast(contrasts, scores.log_probability),
        brier_score(turns, p_accepted(scores.log_odds[turns.turn])),
        *bits_per_byte(turns, scores.log_probability, scores.tokens),
    ]
