"""What may be concluded of a study, and what may not: sentences made from its figures.

A figure is said to differ from chance where its 95 % interval excludes it, and two models are said to differ
where the p-value, corrected for all tests of the study, is below 0.05. Otherwise the sentence says that this
was not shown, which is not that there is nothing.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.report import figure, p_value
from adc_pipeline.study.grid import BASE, VARIANTS, Variant

if TYPE_CHECKING:
    from adc_pipeline.study.results import Study, Test

# Fewer conversations than these make an interval too narrow.
FEW = 20


def conclusions(study: "Study") -> list[str]:
    """One sentence or two for each question that the cells which were made can be asked."""
    said = []
    for source in ("top-2", "random-walk", "both"):
        name = Variant(source).name
        if name in study.estimates:
            said += [_against_chance(study, name, measure) for measure in ("preference_accuracy", "steering")]
            said.append(_in_context(study, name))
    said += _differences(study)
    said.append(_limits(study))
    return [sentence for sentence in said if sentence]


def _against_chance(study: "Study", name: str, measure: str) -> str:
    estimate = study.estimates[name].get(measure)
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    what = measure.replace("_", " ")
    if estimate.low > 0.5:
        verdict = f"{what} is above chance"
    elif estimate.high < 0.5:
        verdict = f"{what} is below chance"
    else:
        verdict = f"{what} was not shown to differ from chance"
    return f"{name}: {verdict}, {figure(estimate)} on {estimate.conversations:,} conversations."


def _in_context(study: "Study", name: str) -> str:
    estimate = study.estimates[name].get("in_context_improvement")
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    if estimate.high < 0:
        verdict = "leaving rejected replies in the context helps to predict the accepted one"
    elif estimate.low > 0:
        verdict = "leaving rejected replies in the context makes the accepted one harder to predict"
    else:
        verdict = "rejected replies in the context were not shown to help or to hurt"
    against = [("the base model", p_against(study, name, BASE, "in_context_improvement"))]
    stripped = replace(VARIANTS[name], markers="stripped").name
    against.append((stripped, p_against(study, stripped, name, "in_context_improvement")))
    known = [f"p {p_value(p)} against {other}" for other, p in against if p is not None]
    beside = f" Corrected for all tests, {', '.join(known)}." if known else ""
    return f"{name}: {verdict}, {figure(estimate)} bits per byte.{beside}"


def p_against(study: "Study", first: str, second: str, measure: str) -> float | None:
    """The corrected p-value of a test of the study; None where it was not made."""
    return next((p for test, p in study.corrected.items() if test == (first, second, measure)), None)


def _differences(study: "Study") -> list[str]:
    """What differs from its reference, and of what that was not shown."""
    between = {test: p for test, p in study.corrected.items() if test.second in VARIANTS}
    shown: dict[str, list[Test]] = {}
    for test, p in between.items():
        if p < 0.05:
            shown.setdefault(test.first, []).append(test)
    said = [
        f"{first} differs from {', '.join(dict.fromkeys(test.second for test in tests))}: "
        + "; ".join(
            f"{test.measure} {figure(study.tests[test])} (p {p_value(study.corrected[test])})" for test in tests
        )
        + "."
        for first, tests in shown.items()
    ]
    silent = sorted({test.first for test in between} - set(shown), key=list(VARIANTS).index)
    if silent:
        said.append(f"Not shown to differ from what they are compared with, in any measure: {', '.join(silent)}.")
    return said


def _limits(study: "Study") -> str:
    counts = [one.conversations for found in study.estimates.values() for one in found.values()]
    fewest = min(counts, default=0)
    seeds = {len(found) for found in study.seeds.values()}
    said = (
        "What this does not show: that another corpus, another base model or a longer training would give the same."
        f" Each variant was trained from {' or '.join(map(str, sorted(seeds)))} seeds; intervals and tests are over"
        " conversations and take the seeds as they are."
    )
    if fewest < FEW:
        said += f" Some figures rest on {fewest} conversations, too few for their intervals to be trusted."
    return said
