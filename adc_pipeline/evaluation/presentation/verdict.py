"""The verdict of a comparison in sentences: whose model is better in what, by how much, and how certain that is."""

from dataclasses import replace

from adc_pipeline.evaluation.comparison import Comparison, Pair
from adc_pipeline.evaluation.formatting import figure, p_value
from adc_pipeline.evaluation.headlines import FIRST
from adc_pipeline.evaluation.intervals.estimate import Difference

# A smaller value of these is better.
LESS_IS_BETTER = ("in_context_improvement",)
# With a corrected p-value below this, a difference counts.
ALPHA = 0.05


def verdict(comparison: Comparison) -> list[str]:
    """Return the sentences on each pair of models: the measures in which either is better, then those undecided."""
    corrected = comparison.corrected()
    sentences = []
    for pair, found in comparison.differences.items():
        better: dict[str, list[str]] = {name: [] for name in pair}
        undecided = []
        for measure in FIRST:
            difference, p = found.get(measure), corrected.get((pair, measure))
            if difference is None or difference.value is None:
                continue
            words = measure.replace("_", " ").replace("in context", "in-context")
            first_is_better = (difference.value > 0) != (measure in LESS_IS_BETTER)
            if p is None or p >= ALPHA:
                undecided.append(f"{words} ({size(difference)}, corrected p {p_value(p)})")
            else:
                better[pair[0 if first_is_better else 1]].append(
                    f"{words} by {size(difference, larger=True)} (corrected p {p_value(p)})"
                )
        sentences += of_pair(pair, better, undecided)
    return sentences


def of_pair(pair: Pair, better: dict[str, list[str]], undecided: list[str]) -> list[str]:
    """Return the sentences on one pair."""
    sentences = [
        f"The model of {name} is better than that of {pair[1] if name == pair[0] else pair[0]} in {listed(measures)}."
        for name, measures in better.items()
        if measures
    ]
    if undecided:
        sentences.append(f"No difference between {pair[0]} and {pair[1]} is shown in {listed(undecided)}.")
    return sentences or [f"The models of {pair[0]} and {pair[1]} share no case, so that they cannot be compared."]


def size(difference: Difference, larger: bool = False) -> str:
    """Return a difference with its interval, first minus second; with `larger`, the better minus the other, or less."""
    value, low, high = difference.value or 0.0, difference.low, difference.high
    if larger and value < 0:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    found = replace(difference, value=value, low=low, high=high)
    return figure(found, sign=not larger)


def listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def headline_names(comparison: Comparison) -> list[str]:
    """Return the names, in `Comparison.metrics`, of the figures that the verdict rests on."""
    names = [f"{name}.{measure}" for name in comparison.evaluations for measure in FIRST]
    for (first, second), found in comparison.differences.items():
        each = [f"{first}_minus_{second}.{measure}" for measure in FIRST if measure in found]
        names += [name + suffix for name in each for suffix in ("", ".p_holm")]
    return names
