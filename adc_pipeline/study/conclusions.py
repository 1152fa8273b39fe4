"""What may be concluded of a study, and what may not: sentences made from its figures.

A figure is said to differ from chance, and two models from one another, where the p-value, corrected for all tests of
the study, is below 0.05. Otherwise the sentence says that this was not shown, which is not that there is nothing. An
interval beside it is that of the figure alone.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.report import figure, p_value
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS, Variant

if TYPE_CHECKING:
    from adc_pipeline.study.results import Study, Test

# A corrected p-value below this is said to show something.
LEVEL = 0.05
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
    estimate, p = study.estimates[name].get(measure), p_against(study, name, CHANCE, measure)
    if estimate is None or estimate.value is None or p is None:
        return ""
    what = measure.replace("_", " ")
    if p >= LEVEL:
        verdict = f"{what} was not shown to differ from chance"
    else:
        verdict = f"{what} is {'above' if estimate.value > 0.5 else 'below'} chance"
    return (
        f"{name}: {verdict}, {figure(estimate)} on {estimate.conversations:,} conversations (p {p_value(p)}, corrected"
        " for all tests)."
    )


def _in_context(study: "Study", name: str) -> str:
    measure = "in_context_improvement"
    estimate, p = study.estimates[name].get(measure), p_against(study, name, CHANCE, measure)
    if estimate is None or estimate.value is None or p is None:
        return ""
    if p >= LEVEL:
        verdict = "rejected replies in the context were not shown to help or to hurt"
    elif estimate.value < 0:
        verdict = "leaving rejected replies in the context helps to predict the accepted one"
    else:
        verdict = "leaving rejected replies in the context makes the accepted one harder to predict"
    stripped = replace(VARIANTS[name], markers="stripped").name
    against = [
        ("no difference", p),
        ("the base model", p_against(study, name, BASE, measure)),
        (stripped, p_against(study, stripped, name, measure)),
    ]
    known = ", ".join(f"p {p_value(one)} against {other}" for other, one in against if one is not None)
    return f"{name}: {verdict}, {figure(estimate)} bits per byte. Corrected for all tests, {known}."


def p_against(study: "Study", first: str, second: str, measure: str) -> float | None:
    """The corrected p-value of a test of the study; None where it was not made."""
    return next((p for test, p in study.corrected.items() if test == (first, second, measure)), None)


def _differences(study: "Study") -> list[str]:
    """What differs from its reference, and of what that was not shown."""
    between = {test: p for test, p in study.corrected.items() if test.second in VARIANTS}
    shown: dict[str, list[Test]] = {}
    for test, p in between.items():
        if p < LEVEL:
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
        f" Seeds of a variant: {' or '.join(map(str, sorted(seeds)))}; intervals and tests are over conversations and"
        " take the seeds as they are."
    )
    if (floor := len(study.corrected) / (1 + study.draws)) >= LEVEL:
        said += (
            f" With {study.draws:,} `draws` no p-value can be below {floor:.3f} when corrected for"
            f" {len(study.corrected):,} tests, so that nothing can be shown: raise `draws` of study_table."
        )
    if fewest < FEW:
        said += f" Some figures rest on {fewest} conversations, too few for their intervals to be trusted."
    return said
