"""The tables of the study's report."""

from adc_pipeline.evaluation.formatting import NONE, figure, number, p_value, sample_size
from adc_pipeline.evaluation.presentation.page import Table
from adc_pipeline.study.grid import BASE, VARIANTS
from adc_pipeline.study.statistics import MEASURES, Study, references


def figures_table(study: Study) -> Table:
    """Return one row a variant, the mean over its seeds with its interval; then the base model's rows."""
    rows = [
        [name, str(len(study.seeds[name])), *(figure(found.get(measure)) for measure in MEASURES)]
        for name, found in study.estimates.items()
    ]
    rows += [
        [f"{BASE}, cases of {name}", NONE, *(figure(study.base[name].get(measure)) for measure in MEASURES)]
        for name in references(study.base)
    ]
    return Table(["variant", "seeds", *MEASURES], rows, figures_caption(study))


def figures_caption(study: Study) -> str:
    """Return what the figures rest on, and which of them do not compare."""
    counts = sorted({each.conversations for found in study.estimates.values() for each in found.values()} - {0})
    numbers = " to ".join(dict.fromkeys(f"{each:,}" for each in (*counts[:1], *counts[-1:]))) or "no"
    caption = (
        f"Means over the seeds; the cases are of {numbers} conversations. A dash marks a measure that does not apply to"
        " the variant, or of which no cell has a case."
    )
    sources: dict[str, dict[str, None]] = {}
    for name in study.estimates:
        sources.setdefault(VARIANTS[name].evaluated_on, {})[VARIANTS[name].source] = None
    if len(sources) > 1:
        walks = "; ".join(f"{dataset} for {' and '.join(each)}" for dataset, each in sources.items())
        caption += (
            f" In-context improvement and bits per byte rest on the walks of one dataset ({walks}) and do not compare"
            " across datasets."
        )
    if verdict_first := [name for name in study.estimates if VARIANTS[name].markers_stand == "before"]:
        caption += (
            f" Bits per byte of {', '.join(verdict_first)} are of turns whose verdict stands before them and do not"
            " compare with those of other variants."
        )
    return caption


def seeds_table(study: Study) -> Table:
    """Return one row a variant: the value of each seed."""
    rows = [
        [name, *(", ".join(map(number, found.get(measure, ()))) or NONE for measure in MEASURES)]
        for name, found in study.by_seed.items()
    ]
    return Table(["variant", *MEASURES], rows, "The value of each seed, in the order of the seeds.")


def differences_table(study: Study) -> Table:
    """Return one row a test."""
    rows = [
        [
            f"{test.first} − {test.second}",
            test.measure,
            figure(difference),
            p_value(difference.p),
            p_value(study.corrected.get(test)),
            sample_size(difference),
        ]
        for test, difference in study.tests.items()
    ]
    header = ["compared", "measure", "difference", "p", "p (Holm)", "cases (conversations)"]
    covered = f"Holm's correction covers these {len(study.corrected)} tests together"
    return Table(header, rows, f"Paired by case; {covered if study.corrected else 'none of them can be tested'}.")
