"""Cluster bootstrap with percentile confidence intervals, of ratio estimators; Student's t where clusters are few.

Field and Welsh 2007, *Bootstrapping clustered data*; Efron and Tibshirani 1993, *An Introduction to the Bootstrap*,
chapter 13. The cases of a conversation share its background, its topic and often its turns. A bootstrap over cases
would take them for independent and give intervals that are too narrow, so whole conversations are resampled. Every
measure is a ratio of two sums over cases (see `measures.py`), which makes a resample a matrix product: how often each
conversation was drawn, times its totals. 10,000 draws over 175 conversations cost about 35 ms for all series of a
measure together, over 500 about 60 ms.

Percentiles of a bootstrap over C conversations are too narrow where C is small: they use the normal distribution's
quantile with a variance that is too small by (C − 1) / C. Below `FEW` conversations the interval is Student's t with
C − 1 degrees of freedom, around the linearized ratio: with the totals v and w of a conversation and the ratio r, its
residual is z = (v − r w) / sum(w), and the variance of r is C / (C − 1) × sum(z²).

Conversations that are all alike tell nothing of how much others vary: every resample gives the same ratio, and an
interval without width would say that it is known exactly. There is none then, however many they are, and the reason is
given.
"""

from collections.abc import Iterator

import numpy as np

from adc_pipeline.evaluation.arrays import Floats, Ints
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.intervals.student import FEW, Part, half_width

# Random numbers drawn at a time: what the caches hold. Over 500 conversations this takes a third less time than one
# draw of all numbers.
CHUNK = 1 << 18


def chunks(draws: int, size: int) -> Iterator[int]:
    """Yield how many draws to make at a time so that, at `size` numbers each, they fit into `CHUNK`."""
    step = max(1, CHUNK // size)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def resampled_ratios(numerators: Floats, denominators: Floats, draws: int, seed: int) -> Floats:
    """Return the ratios of sums over resamples, with replacement, of the rows: (draws, series) from (rows, series).

    The same seed and number of rows give the same resamples, so that series, and models, are compared on the same
    ones. A ratio is NaN where a resample's denominators sum to zero.
    """
    rng = np.random.default_rng(seed)
    size, series = numerators.shape
    totals = np.concatenate([numerators, denominators], axis=1)  # (rows, 2 × series)
    ratios = []
    for rows in chunks(draws, size):
        chosen = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * size).reshape(rows, size)
        sums = times.astype(np.float64) @ totals
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append(sums[:, :series] / sums[:, series:])
    return np.concatenate(ratios)


def totals_by_conversation(values: Floats, conversation: Ints) -> Floats:
    """Sum the cases of each conversation: (conversations, series) from (series, cases)."""
    _, place = np.unique(conversation, return_inverse=True)
    return np.stack([np.bincount(place, row).astype(np.float64) for row in values], axis=1)


def ratio_estimates(values: Floats, weights: Floats, conversation: Ints, draws: int, seed: int) -> list[Estimate]:
    """Return sum(values) / sum(weights) of each series, with its interval.

    The interval goes from the 2.5th to the 97.5th percentile of the bootstrap, and is Student's t below `FEW`
    conversations. It is refused for one conversation, and for any number that are all alike.

    `values` and `weights` are (series, cases), one case the same in all series; `conversation`, (cases,), numbers the
    conversation of each case. Conversations without any weight are not resampled.
    """
    cases = values.shape[1]
    numerators, denominators = (totals_by_conversation(each, conversation) for each in (values, weights))
    weighed = (denominators > 0).any(axis=1)
    numerators, denominators = numerators[weighed], denominators[weighed]
    size = len(denominators)
    if not size:
        return [Estimate(None, None, None, cases, 0)] * len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        points = numerators.sum(axis=0) / denominators.sum(axis=0)
    found = []
    ratios = resampled_ratios(numerators, denominators, draws, seed) if size >= FEW else None
    for series, point in enumerate(points):
        if np.isnan(point):
            found.append(Estimate(None, None, None, cases, size))
            continue
        low = high = None
        variance = linearized_variance(float(point), numerators[:, series], denominators[:, series])
        refused = "one conversation" if size == 1 else None if variance else f"{size:,} conversations alike"
        if ratios is not None and not refused:
            low, high = (float(bound) for bound in np.nanpercentile(ratios[:, series], [2.5, 97.5]))
        elif not refused:
            half = half_width([Part(variance, size - 1)])
            low, high = float(point) - half, float(point) + half
        found.append(Estimate(float(point), low, high, cases, size, refused=refused))
    return found


def linearized_variance(ratio: float, numerators: Floats, denominators: Floats) -> float:
    """Return the variance of a ratio over conversations; 0 for one, or where all are alike; both (conversations,)."""
    size = len(numerators)
    if size == 1:
        return 0.0
    residuals = (numerators - ratio * denominators) / denominators.sum()
    variance = size / (size - 1) * float((residuals**2).sum())
    # Rounding leaves residuals of the last digits.
    return variance if variance > 1e-24 * max(1.0, ratio**2) else 0.0
