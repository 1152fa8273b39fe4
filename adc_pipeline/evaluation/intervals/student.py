"""Student's t over clusters, for estimates with too few clusters for a percentile bootstrap.

An estimate's error is a sum of independent parts, each with a variance that was estimated from a number of clusters:
one part for conversations, and in the study a second one for seeds. The limits of each part alone are those of
Student's t; those of the sum follow by the method of variance estimates recovery,

    half-width = sqrt(sum over parts of t(level, freedom)² × variance),

which is Student's interval where there is one part (Zou and Donner 2008, *Construction of confidence limits about
effect measures: a general approach*). The p-value is the level at which the interval ends at zero, so that an interval
and its test never disagree.
"""

from collections.abc import Sequence
from typing import NamedTuple

# With fewer clusters than this, percentiles of a bootstrap are too narrow.
FEW = 20
# The smallest p-value that is computed.
LEAST = 1e-12


class Part(NamedTuple):
    """The variance of one part of an estimate's error, and the degrees of freedom of that variance."""

    variance: float
    freedom: int


def half_width(parts: Sequence[Part], level: float = 0.05) -> float:
    """Return half the width of the interval of confidence 1 − `level`."""
    from scipy.special import stdtrit

    critical = [float(-stdtrit(part.freedom, level / 2)) for part in parts]
    return float(sum(t**2 * part.variance for t, part in zip(critical, parts, strict=True)) ** 0.5)


def two_sided_p(distance: float, parts: Sequence[Part]) -> float:
    """Return the p-value of an estimate that lies `distance` from its hypothesis: 1 for none, `LEAST` at least."""
    if not distance:
        return 1.0
    low, high = LEAST, 1.0
    # The width falls as the level rises. Forty halvings of the ratio resolve 0.0001 of the p-value.
    for _ in range(40):
        level = (low * high) ** 0.5
        low, high = (level, high) if half_width(parts, level) > abs(distance) else (low, level)
    return high
