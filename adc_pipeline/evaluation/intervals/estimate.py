"""Estimates and paired differences, as evaluations store, test, print and draw them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval, and the numbers of cases and conversations that it rests on.

    Without a case `value` is None. Where no interval can be given `low` and `high` are None, and `refused` is the
    reason, such as `one conversation`.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    conversations: int
    refused: str | None = field(default=None, kw_only=True)

    def figures(self) -> dict[str, float | None]:
        """Return all figures by name."""
        found = vars(self).copy()
        del found["refused"]
        return found


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference and the two-sided p-value of no difference; None where too few clusters allow no test."""

    p: float | None
