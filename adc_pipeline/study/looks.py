"""Group sequential boundaries of O'Brien and Fleming, and Holm's correction over hypotheses with looks.

A study that tests after 3 seeds and again after 5 has two chances to be wrong. With fractions t_1 < ... < t_K = 1 of
the information, a hypothesis is rejected at look k if |Z_k| >= c / sqrt(t_k); c is such that this happens at any look
with probability `alpha` if there is no effect (O'Brien and Fleming 1979, *A multiple testing procedure for clinical
trials*). Z_k sqrt(t_k) is a random walk with independent normal steps, so that the probability of staying below c at
all looks is an integral over one look after the other (Armitage, McPherson and Rowe 1969, *Repeated significance tests
on accumulating data*). Our statistics have Student's distribution, so their p-values are compared with the two-sided
levels of the boundary (Jennison and Turnbull 2000, *Group Sequential Methods with Applications to Clinical Trials*).

Holm over several hypotheses: with m of them left, each is tested by the boundary of alpha / m; what is rejected passes
its share on (Ye, Li, Liu and Yao 2013, *A group sequential Holm procedure*).
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

# Points of the Gauss-Legendre quadrature over the random walk.
POINTS = 64


def crossing(bound: float, fractions: Sequence[float]) -> float:
    """Return the probability that the walk is beyond ±`bound` at any of the looks."""
    grid, weights = (bound * each for each in np.polynomial.legendre.leggauss(POINTS))
    inside = _normal(grid, fractions[0])
    for before, now in pairwise(fractions):
        inside = _normal(grid[:, None] - grid[None], now - before) @ (inside * weights)
    return 1 - float((inside * weights).sum())


def _normal(x: np.ndarray, variance: float) -> np.ndarray:
    return np.asarray(np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))


def nominal_levels(looks: Sequence[int], alpha: float) -> dict[int, float]:
    """Return the two-sided level of each look; `looks` are numbers of seeds, the last one the study's end."""
    from scipy.special import ndtr

    fractions = [look / looks[-1] for look in looks]
    low, high = 0.1, 10.0
    for _ in range(40):
        bound = (low + high) / 2
        low, high = (bound, high) if crossing(bound, fractions) > alpha else (low, bound)
    return {look: 2 * float(ndtr(-high / t**0.5)) for look, t in zip(looks, fractions, strict=True)}


def rejected(p_values: Mapping[Key, Mapping[int, float]], looks: Sequence[int], alpha: float) -> dict[Key, int]:
    """Return the hypotheses that are rejected, each with the first look at which it is.

    `p_values` are theirs by look, for the looks that were held.
    """
    found: dict[Key, int] = {}
    while left := p_values.keys() - found:
        levels = nominal_levels(looks, alpha / len(left))
        beyond = {key: [look for look, p in p_values[key].items() if p <= levels[look]] for key in left}
        hit = {key: min(held) for key, held in beyond.items() if held}
        if not hit:
            break
        found |= hit
    return found
