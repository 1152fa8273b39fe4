"""Turn the study's figures into sentences: what may be concluded, and what may not.

A figure differs from chance, and one model from another, where the p-value corrected for all tests of the study is
below 0.05. Otherwise the sentence states that no difference was shown, which does not mean that there is none. An
interval beside a p-value is not corrected.
"""

from dataclasses import replace

from adc_pipeline.evaluation.formatting import figure, p_value
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS
from adc_pipeline.study.statistics import MEASURES, Study, Test, references
from adc_pipeline.study.two_way import ONE_SEED

# Significance level of the corrected p-values.
LEVEL = 0.05


def conclusions(study: Study) -> list[str]:
    """Return a sentence or two for each question that the made cells can answer."""
    sentences = []
    for name in references(study.estimates):
        sentences += [against_chance(study, name, measure) for measure in ("preference_accuracy", "steering")]
        sentences.append(in_context(study, name))
    sentences += differences(study)
    sentences.append(limits(study))
    return [sentence for sentence in sentences if sentence]


def against_chance(study: Study, name: str, measure: str) -> str:
    """Compare a measure of a variant with chance; empty where it was not tested."""
    estimate, p = study.estimates[name].get(measure), p_of(study, name, CHANCE, measure)
    if estimate is None or estimate.value is None or p is None:
        return ""
    label = measure.replace("_", " ")
    if p >= LEVEL:
        verdict = f"{label} was not shown to differ from chance"
    else:
        verdict = f"{label} is {'above' if estimate.value > 0.5 else 'below'} chance"
    return (
        f"{name}: {verdict}, {figure(estimate)} on {estimate.conversations:,} conversations (p {p_value(p)}, corrected"
        " for all tests)."
    )


def in_context(study: Study, name: str) -> str:
    """State whether rejected replies in the context help a variant; empty where that was not tested."""
    measure = "in_context_improvement"
    estimate, p = study.estimates[name].get(measure), p_of(study, name, CHANCE, measure)
    if estimate is None or estimate.value is None or p is None:
        return ""
    if p >= LEVEL:
        verdict = "rejected replies in the context were not shown to help or to hurt"
    elif estimate.value < 0:
        verdict = "rejected replies in the context help to predict the accepted one"
    else:
        verdict = "rejected replies in the context make the accepted one harder to predict"
    stripped = replace(VARIANTS[name], markers="stripped").name
    p_values = {
        "no difference": p,
        "the base model": p_of(study, name, BASE, measure),
        stripped: p_of(study, stripped, name, measure),
    }
    known = ", ".join(f"p {p_value(each)} against {other}" for other, each in p_values.items() if each is not None)
    return f"{name}: {verdict}, {figure(estimate)} bits per byte. Corrected for all tests, {known}."


def p_of(study: Study, first: str, second: str, measure: str) -> float | None:
    """Return the corrected p-value of a test; None where it was not made."""
    return study.corrected.get(Test(first, second, measure))


def differences(study: Study) -> list[str]:
    """State which variants differ from those that they are compared with, and which were not shown to."""
    between = {test: p for test, p in study.corrected.items() if test.second in VARIANTS}
    shown: dict[str, list[Test]] = {}
    for test, p in between.items():
        if p < LEVEL:
            shown.setdefault(test.first, []).append(test)
    sentences = [
        f"{first} differs from {', '.join(dict.fromkeys(test.second for test in tests))}: "
        + "; ".join(
            f"{test.measure} {figure(study.tests[test])} (p {p_value(study.corrected[test])})" for test in tests
        )
        + "."
        for first, tests in shown.items()
    ]
    others = sorted({test.first for test in between} - set(shown), key=list(VARIANTS).index)
    if others:
        sentences.append(f"Not shown to differ from what they are compared with, in any measure: {', '.join(others)}.")
    return sentences


def limits(study: Study) -> str:
    """State what the study cannot show."""
    counts = sorted({len(found) for found in study.seeds.values()})
    sentences = [
        "What this does not show: that another corpus, another base model or a longer training would give the same.",
        f"Seeds of a variant: {' or '.join(map(str, counts))}; intervals and tests take seeds and conversations as"
        " samples.",
    ]
    if alone := [name for name, found in study.seeds.items() if len(found) == 1]:
        sentences.append(
            f"One seed tells nothing of other trainings, so there is no interval and no test of {', '.join(alone)}:"
            " make more seeds."
        )
    known = {measure for found in study.estimates.values() for measure in found}
    if study.estimates and (without := [measure for measure in MEASURES if measure not in known]):
        sentences.append(f"No cell has a case of {', '.join(without)}: of these nothing can be said.")
    refused: dict[str, set[str]] = {}
    for found in study.estimates.values():
        for measure, estimate in found.items():
            if estimate.refused and estimate.refused != ONE_SEED:
                refused.setdefault(estimate.refused, set()).add(measure)
    sentences += [f"{reason} give no interval of {', '.join(sorted(found))}." for reason, found in refused.items()]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
