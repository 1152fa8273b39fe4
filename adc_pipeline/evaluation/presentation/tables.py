"""The tables of an evaluation and of a comparison, for the HTML report and, as Markdown, for Dagster's pages."""

from collections.abc import Mapping, Sequence

from adc_pipeline.evaluation.baselines import BASELINES, TESTED_READINGS, informative
from adc_pipeline.evaluation.comparison import Comparison, Pair
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.formatting import NONE, figure, number, p_value, sample_size
from adc_pipeline.evaluation.headlines import FIRST, HEADLINES
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.intervals.significance import corrected
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.presentation.page import Table
from adc_pipeline.evaluation.replies.policy import ALL_CONTROLS, POLICY

CASES = "cases (conversations)"
CHANCE = {
    "preference_accuracy": "0.5",
    "steering": "see length",
    "in_context_improvement": "0",
    "rejection_contrast": "0",
}
# Baselines of single measures, by the name of their estimates in an evaluation.
OTHER_BASELINES = {"length": "length", "constant": "constant", "grammar": "verdict before"}
# Differences of policy improvement; its other readings are scores and shares.
DIFFERENCES = (f"{POLICY}.first_step", f"{POLICY}.minus_")


def chance(measure: str) -> str:
    if measure == POLICY or measure.startswith(DIFFERENCES):
        return "0"
    return CHANCE.get(family(measure), NONE)


def policy_table(evaluation: Evaluation) -> Table:
    """Return the judge's scores by the number of rejected replies in the context, of the model and of the controls."""
    known = [each for each in ALL_CONTROLS if f"{POLICY}.{each}.k1" in evaluation.model]
    columns = {"own": "", **{control.replace("_", " "): f".{control}" for control in known}}
    columns["own − yoked"] = ".minus_yoked"
    rows = []
    k = 0
    while f"{POLICY}.k{k}" in evaluation.model:
        names = [f"{POLICY}{infix}.k{k}" for infix in columns.values()]
        rows.append([str(k), *(figure(evaluation.model.get(name)) for name in names)])
        k += 1
    return Table(["rejected replies", *columns], rows)


def headline_table(evaluation: Evaluation) -> Table:
    """Return the headline measures of a model beside its baselines."""
    base = informative(evaluation.base)
    p_values = corrected(evaluation.minus_base)
    rows = [
        [
            name,
            chance(name),
            figure(evaluation.model[name]),
            figure(base.get(name)),
            baselines(evaluation, name),
            figure(evaluation.minus_base.get(name)),
            p_value(p_values.get(name)),
            sample_size(evaluation.model[name]),
        ]
        for name in HEADLINES
        if name in evaluation.model
    ]
    header = ["measure", "chance", "model", "base model", "other baselines", "model − base", "p (Holm)"]
    return Table([*header, CASES], rows)


def baselines(evaluation: Evaluation, name: str) -> str:
    """Return a measure of the baselines, each with its label."""
    found = {label: getattr(evaluation, field).get(name) for field, label in OTHER_BASELINES.items()}
    found |= {BASELINES[field]: each.get(name) for field, each in evaluation.baselines.items()}
    return "; ".join(f"{label} {number(each.value)}" for label, each in found.items() if each is not None) or NONE


def baselines_table(evaluation: Evaluation, caption: str = "") -> Table:
    """Return preference accuracy of each baseline beside the model's, and the difference, by reading."""
    tests = {
        (reading, name): each
        for reading in TESTED_READINGS
        for name, found in evaluation.minus_baselines.items()
        if (each := found.get(reading)) is not None
    }
    p_values = corrected(tests)
    every = {"length": evaluation.length, **evaluation.baselines}
    rows = [
        [
            TESTED_READINGS[reading],
            BASELINES[name],
            figure(every[name].get(reading)),
            figure(evaluation.model.get(reading)),
            figure(difference, sign=True),
            p_value(p_values.get((reading, name))),
            sample_size(difference),
        ]
        for (reading, name), difference in tests.items()
    ]
    return Table(["pairs", "baseline", "accuracy", "model", "model − baseline", "p (Holm)", CASES], rows, caption)


def short_table(evaluation: Evaluation) -> Table:
    """Return the headline measures of a model, with the base model's and the corrected p-value of the difference.

    As Markdown it is short enough for Dagster to show it without a click (`core.markdown.LONG`).
    """
    p_values = corrected(evaluation.minus_base)
    rows = [
        [name, figure(evaluation.model[name]), base_value(evaluation, name), p_value(p_values.get(name))]
        for name in HEADLINES
        if name in evaluation.model
    ]
    return Table(["measure", "model", "base", "p"], rows)


def base_value(evaluation: Evaluation, name: str) -> str:
    base = informative(evaluation.base)
    return number(base[name].value) if name in base else NONE


def short_comparison_table(comparison: Comparison) -> Table:
    """Return the main measures of all models, as short as `short_table`."""
    evaluations = comparison.evaluations
    rows = [
        [name, *(figure(each.model.get(name)) for each in evaluations.values())]
        for name in (*FIRST, "verdict_calibration.brier", "bits_per_byte")
        if any(name in each.model for each in evaluations.values())
    ]
    return Table(["measure", *evaluations], rows)


def estimates_table(columns: Mapping[str, Mapping[str, Estimate]], models: Sequence[str]) -> Table:
    """Return one row a measure and one column a series, with the sample sizes of the columns named `models`.

    The rows are the measures of the models; other columns are baselines.
    """
    measures = dict.fromkeys(name for model in models for name in columns[model])
    sizes = [f"cases, {model}" for model in models] if len(models) > 1 else [CASES]
    rows = [
        [
            name,
            chance(name),
            *(figure(estimates.get(name)) for estimates in columns.values()),
            *(sample_size(columns[model].get(name)) for model in models),
        ]
        for name in measures
    ]
    return Table(["measure", "chance", *columns, *sizes], rows)


def all_tables(evaluation: Evaluation) -> list[Table]:
    """Return every measure of a model beside its base model and simple baselines, and those of the other baselines.

    Two tables, since one with a column for each would be wider than a page of 1,280 pixels.
    """
    columns = {
        "model": evaluation.model,
        "base model": informative(evaluation.base),
        "length alone": evaluation.length,
        "constant": evaluation.constant,
        "verdict before": evaluation.grammar,
    }
    rows = [
        [name, *(figure(each.get(name)) for each in evaluation.baselines.values())]
        for name in evaluation.model
        if any(name in each for each in evaluation.baselines.values())
    ]
    others = Table(["measure", *(BASELINES[name] for name in evaluation.baselines)], rows)
    return [estimates_table(columns, ["model"]), *([others] if rows else [])]


def lengths_table(counts: Mapping[str, float | None]) -> Table:
    """Return the lengths of held-out turns, and length, variety and validity of what the models write."""

    def row(label: str, name: str) -> list[str]:
        prefixes = [(prefix, verdict) for prefix in ("", "base.") for verdict in ("rejected", "accepted")]
        return [label, *(number(counts.get(prefix + name.format(verdict))) for prefix, verdict in prefixes)]

    return Table(
        ["mean", "rejected", "accepted", "base model, rejected", "base model, accepted"],
        [
            row("bytes of a held-out turn with this verdict", "bytes.{}"),
            row("words of a sample after this verdict", "samples.{}.words"),
            row("distinct words among its words", "samples.{}.distinct_1"),
            row("distinct word pairs among its word pairs", "samples.{}.distinct_2"),
            row("share of 4-grams that occurred before", "samples.{}.repetition"),
            row("share that keeps the marker grammar", "samples.{}.valid"),
        ],
    )


def comparison_series(comparison: Comparison) -> dict[str, Mapping[str, Estimate]]:
    """Return the estimates of all models, then of their base models, then of reply length, by label.

    Each model has its own base model's figures, since measures over walks rest on each dataset's own cases.
    """
    evaluations = comparison.evaluations
    series: dict[str, Mapping[str, Estimate]] = {name: each.model for name, each in evaluations.items()}
    series |= {f"base of {name}": informative(each.base) for name, each in evaluations.items()}
    return {**series, "length alone": next((each.length for each in evaluations.values() if each.length), {})}


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return the headline measures of all models beside reply length, and of their base models.

    Two tables, since one with a column for each would be wider than a page of 1,280 pixels.
    """
    models, series = list(comparison.evaluations), comparison_series(comparison)
    bases = [f"base of {name}" for name in models]
    table = estimates_table({name: each for name, each in series.items() if name not in bases}, models)
    measures = [row[0] for row in table.rows if row[0] in HEADLINES]
    rows = [[name, *(figure(series[base].get(name)) for base in bases)] for name in measures]
    return [
        Table(table.header, [row for row in table.rows if row[0] in measures]),
        Table(["measure", *bases], [row for row in rows if set(row[1:]) != {NONE}]),
    ]


def differences_table(comparison: Comparison, pair: Pair) -> Table:
    """Return first minus second, over the cases that both models share."""
    p_values = comparison.corrected()
    rows = [
        [
            measure,
            figure(difference),
            p_value(difference.p),
            p_value(p_values.get((pair, measure))),
            sample_size(difference),
        ]
        for measure, difference in comparison.differences[pair].items()
    ]
    return Table(["measure", f"{pair[0]} − {pair[1]}", "p", "p (Holm)", CASES], rows)
