"""Estimates and paired differences, as evaluations store, test, print and draw them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval, and the numbers of cases and conversations that it rests on.

    Without a case `value` is None; with cases of a single conversation `low` and `high` are None.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    conversations: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference and the two-sided p-value of no difference, which is None below two conversations."""

    p: float | None
