"""Format figures as text: four significant digits, the interval in brackets, p-values with three decimals.

Reports, tables, conclusions and decisions use these functions and no format of their own.
"""

import math

from adc_pipeline.evaluation.intervals.estimate import Estimate

NONE = "–"


def number(value: float | None, sign: bool = False) -> str:
    """Return a number with four significant digits and a typographic minus; with `sign`, also a plus.

    From 1,000 on all digits before the point are given, and none after it. A dash stands for None.
    """
    if value is None:
        return NONE
    text = format(value, "+#.4g" if sign else "#.4g")
    if math.isfinite(value) and abs(float(text)) >= 1000:
        text = format(value, "+,.0f" if sign else ",.0f")
    return text.replace("-", "−")


def interval(low: float, high: float, sign: bool = False) -> str:
    """Return `[0.5800, 0.6444]`, which no line break parts."""
    return f"[{number(low, sign)},\N{NO-BREAK SPACE}{number(high, sign)}]"


def figure(estimate: Estimate | None, sign: bool = False) -> str:
    """Return `0.6124 [0.5800, 0.6444]`, or why there is no interval; a dash where the measure does not exist."""
    if estimate is None:
        return NONE
    if estimate.value is None:
        return "no cases"
    value = number(estimate.value, sign)
    if estimate.low is None or estimate.high is None:
        return f"{value} ({estimate.refused or 'one conversation'})"
    return f"{value} {interval(estimate.low, estimate.high, sign)}"


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, about what 10,000 draws resolve."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def sample_size(estimate: Estimate | None) -> str:
    """Return `980 (169)`: the cases and, in parentheses, the conversations of an estimate."""
    return NONE if estimate is None else f"{estimate.cases:,} ({estimate.conversations:,})"
