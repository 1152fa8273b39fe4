"""Paired sign-flip permutation test over clusters, and the Holm-Bonferroni correction.

The test: Noreen 1989, *Computer-intensive methods for testing hypotheses*; for language models, Dror et al. 2018, *The
Hitchhiker's Guide to Testing Statistical Significance in Natural Language Processing*. Conversations are the units,
for the reason given in `bootstrap.py`. The correction: Holm 1979, *A simple sequentially rejective multiple test
procedure*.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from adc_pipeline.evaluation.arrays import Floats, Ints
from adc_pipeline.evaluation.intervals.bootstrap import chunks, ratio_estimates, totals_by_conversation
from adc_pipeline.evaluation.intervals.estimate import Difference

Key = TypeVar("Key", bound=Hashable)


def paired_difference(
    first: Floats, second: Floats, weight: Floats, conversation: Ints, draws: int, seed: int
) -> Difference:
    """Return sum(first − second) / sum(weight) over the same cases, with its interval and p-value; all (cases,).

    The interval is the cluster bootstrap's, of the difference case by case.
    """
    return paired_differences_from(first, second[None], weight, conversation, draws, seed)[0]


def paired_differences_from(
    first: Floats, others: Floats, weight: Floats, conversation: Ints, draws: int, seed: int
) -> list[Difference]:
    """Return `paired_difference` of first and each of `others`, (series, cases), on the same resamples and signs."""
    differences = first - others
    weights = np.broadcast_to(weight, differences.shape)
    estimates = ratio_estimates(differences, weights, conversation, draws, seed)
    p_values: list[float | None] = [None] * len(estimates)
    if estimates and estimates[0].conversations > 1:
        totals = totals_by_conversation(differences, conversation)
        p_values = [*sign_flip_p_values(totals, draws, seed)]
    return [Difference(**vars(each), p=p) for each, p in zip(estimates, p_values, strict=True)]


def sign_flip_p_values(totals: Floats, draws: int, seed: int) -> list[float]:
    """Return the two-sided p-values of no difference; `totals`, (conversations, series), are the summed differences.

    If two models are alike, exchanging them in a conversation is as likely as not, which flips the sign of its total.
    Over draws of signs,

        p = (1 + #{|sum(±totals)| >= |sum(totals)|}) / (1 + draws),

    which is never 0 (Phipson and Smyth 2010, *Permutation P-values should never be zero*).
    """
    observed, scale = abs(totals.sum(axis=0)), np.abs(totals).sum(axis=0)
    rng = np.random.default_rng(seed)
    at_least_as_far = np.zeros(totals.shape[1], dtype=np.int64)
    for rows in chunks(draws, len(totals)):
        signs = 2.0 * rng.integers(2, size=(rows, len(totals)), dtype=np.int8) - 1
        # Summed in another order, equal sums differ in their last digits; a draw that equals the observed one counts.
        at_least_as_far += (np.abs(signs @ totals) >= observed - 1e-9 * scale).sum(axis=0)
    return [float(count) for count in (1 + at_least_as_far) / (1 + draws)]


def corrected(differences: Mapping[Key, Difference]) -> dict[Key, float]:
    """Return the p-values, corrected by Holm's method, of the differences that were tested."""
    return holm({key: each.p for key, each in differences.items() if each.p is not None})


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return p-values corrected for being tested together, in the given order.

    The i-th smallest of n, from 0, is multiplied by n − i; none is below one before it, nor above 1. Rejecting what is
    below 0.05 then errs anywhere in the family with a probability of at most 0.05.
    """
    corrected: dict[Key, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[key] * (len(p_values) - rank)))
        corrected[key] = highest
    return {key: corrected[key] for key in p_values}
