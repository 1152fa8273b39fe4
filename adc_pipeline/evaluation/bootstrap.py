"""Intervals: a percentile bootstrap over conversations, of a ratio of sums.

Cases of one conversation are not independent (they share its background, its topic and often its
turns), so conversations are what is resampled. Every measure here is a ratio of two sums over cases,
which makes a resample two sums over per-conversation totals: 2,000 draws over 150 conversations cost
about 6 ms, 10,000 over 5,000 about 0.8 s.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Indices held at once, 64 MB of them.
CHUNK = 1 << 23


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and what it rests on; `None` where there are too few cases to say.

    Without a case there is no value; with cases of a single conversation there is no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    conversations: int


def resampled_ratios(numerator: Floats, denominator: Floats, draws: int, seed: int) -> Floats:
    """sum(numerator) / sum(denominator) over `draws` resamples of the entries, with replacement.

    The same seed and number of entries give the same resamples, so that two models are compared on the
    same ones.
    """
    rng = np.random.default_rng(seed)
    size = len(numerator)
    ratios = np.empty(draws)
    step = max(1, CHUNK // size)
    for start in range(0, draws, step):
        chosen = rng.integers(size, size=(min(step, draws - start), size))
        ratios[start : start + step] = numerator[chosen].sum(axis=1) / denominator[chosen].sum(axis=1)
    return ratios


def ratio_estimate(value: Floats, weight: Floats, conversation: Ints, draws: int, seed: int) -> Estimate:
    """sum(value) / sum(weight) over cases, with the interval between the 2.5th and 97.5th percentile.

    `conversation` numbers the conversation of each case. Conversations whose weights are all zero say
    nothing and are not resampled. Percentile intervals of clustered data: Field and Welsh 2007,
    *Bootstrapping clustered data*.
    """
    _, place = np.unique(conversation, return_inverse=True)
    numerator = np.bincount(place, value).astype(np.float64)
    denominator = np.bincount(place, weight).astype(np.float64)
    numerator, denominator = numerator[denominator > 0], denominator[denominator > 0]
    size = len(denominator)
    if not size:
        return Estimate(None, None, None, len(value), 0)
    total = float(numerator.sum() / denominator.sum())
    if size == 1:
        return Estimate(total, None, None, len(value), 1)
    low, high = np.percentile(resampled_ratios(numerator, denominator, draws, seed), [2.5, 97.5])
    return Estimate(total, float(low), float(high), len(value), size)
