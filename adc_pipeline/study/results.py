"""What the cells say together: one table, one page of plots, and what may be concluded of them.

The seeds of a variant answer the same cases; what is compared is the mean of their answers to each case, over the
seeds that both variants have, since seeds differ by more than many variants do. A difference is thereby
paired by case, and its interval and test are over conversations. Every p-value of the
study, those against chance among them, is corrected by Holm's method for all the tests in it. The conclusions are
sentences made from the figures: where a corrected p-value is not below 0.05, they say that nothing was shown.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adc_pipeline.evaluation.bootstrap import Difference, Estimate, holm, paired_difference, ratio_estimates
from adc_pipeline.evaluation.learned import told_alike
from adc_pipeline.evaluation.report import INTERVALS, MEANINGS, Section, Table, figure, p_value, page
from adc_pipeline.evaluation.settings import ComparisonSettings
from adc_pipeline.study.conclusions import conclusions
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The measures of the study and, of each, what a model gets that has learned nothing of it.
MEASURES: Mapping[str, float | None] = {
    "preference_accuracy": 0.5,
    "steering": 0.5,
    "in_context_improvement": 0.0,
    "bits_per_byte.accepted": None,
}
# Any two models are asked about these cases; the others are those of a dataset's walks.
OF_EVERY_DATASET = ("preference_accuracy", "steering")


class Test(NamedTuple):
    """`first` minus `second` in one measure; both are variants, or the second is the base model or chance."""

    first: str
    second: str
    measure: str


@dataclass(frozen=True)
class Study:
    """Estimates by variant and measure, with the value of each seed, and all tests with their corrected p-values."""

    seeds: Mapping[str, Sequence[int]]
    estimates: Mapping[str, Mapping[str, Estimate]]
    by_seed: Mapping[str, Mapping[str, Sequence[float]]]
    base: Mapping[str, Mapping[str, Estimate]]
    tests: Mapping[Test, Difference]
    corrected: Mapping[Test, float]
    draws: int  # of signs, so that no p-value is below 1 / (1 + draws)


def read_study(folders: Mapping[tuple[str, int], Path], settings: ComparisonSettings) -> Study:
    """From the folders that `evaluate` wrote, by variant and seed."""
    import duckdb

    seeds = {name: sorted(seed for variant, seed in folders if variant == name) for name in VARIANTS}
    seeds = {name: found for name, found in seeds.items() if found}
    with duckdb.connect() as connection:
        _read_cases(connection, folders)
        estimates: dict[str, dict[str, Estimate]] = {}
        base: dict[str, dict[str, Estimate]] = {}
        by_seed = {}
        for variant in seeds:
            estimates[variant], base[variant] = {}, {}
            for measure in MEASURES:
                cases = _columns(connection, _MEANS, [variant, measure])
                if not len(cases["value"]):
                    continue
                both, weights = np.stack([cases["value"], cases["other"]]), np.stack([cases["weight"]] * 2)
                estimates[variant][measure], base[variant][measure] = ratio_estimates(
                    both, weights, cases["conversation"], settings.draws, settings.draw_seed
                )
            by_seed[variant] = {
                measure: [value for (value,) in connection.execute(_BY_SEED, [variant, measure]).fetchall()]
                for measure in estimates[variant]
            }
        tests = {}
        for test in _tests(estimates):
            if test.second in (BASE, CHANCE):
                cases = _columns(connection, _MEANS, [test.first, test.measure])
                if test.second == CHANCE:
                    cases["other"] = MEASURES[test.measure] * cases["weight"]
            else:
                cases = _columns(connection, _PAIRED, list(test))
            if len(cases["value"]):
                tests[test] = paired_difference(
                    cases["value"],
                    cases["other"],
                    cases["weight"],
                    cases["conversation"],
                    settings.draws,
                    settings.draw_seed,
                )
    known = {test: difference.p for test, difference in tests.items() if difference.p is not None}
    return Study(seeds, estimates, by_seed, base, tests, holm(known), settings.draws)


def _tests(estimates: Mapping[str, Mapping[str, Estimate]]) -> Iterable[Test]:
    """Each variant against the base model and against its reference, and the references against one another.

    The references also against chance, of which the conclusions speak: every further test would cost all others power.
    """
    for name, found in estimates.items():
        for measure in found:
            yield Test(name, BASE, measure)
        variant = VARIANTS[name]
        reference = variant.reference.name
        alike = told_alike(variant.markers_stand, variant.reference.markers_stand)
        if reference != name and reference in estimates:
            for measure in found:
                if measure in estimates[reference] and (alike or not measure.startswith("bits_per_byte")):
                    yield Test(name, reference, measure)
    references = [name for name in estimates if VARIANTS[name].reference.name == name]
    for place, first in enumerate(references):
        for measure, chance in MEASURES.items():
            if chance is not None and measure in estimates[first]:
                yield Test(first, CHANCE, measure)
        for second in references[place + 1 :]:
            for measure in OF_EVERY_DATASET:
                if measure in estimates[first] and measure in estimates[second]:
                    yield Test(first, second, measure)


_MEANS = """
SELECT conversation, avg(model) AS value, avg(base) AS other, avg(weight) AS weight
FROM cases WHERE variant = $1 AND measure = $2
GROUP BY conversation, conversation_id, "case" ORDER BY conversation_id, "case"
"""
_PAIRED = """
SELECT ours.conversation, avg(ours.model) AS value, avg(theirs.model) AS other, avg(ours.weight) AS weight
FROM cases AS ours JOIN cases AS theirs USING (seed, measure, conversation_id, "case")
WHERE ours.variant = $1 AND theirs.variant = $2 AND measure = $3
GROUP BY ours.conversation, conversation_id, "case" ORDER BY conversation_id, "case"
"""
_BY_SEED = """
SELECT sum(model) / sum(weight) FROM cases WHERE variant = $1 AND measure = $2 GROUP BY seed ORDER BY seed
"""


def _read_cases(connection: "DuckDBPyConnection", folders: Mapping[tuple[str, int], Path]) -> None:
    """The table `cases`, one row a case and cell."""
    connection.execute(
        "CREATE TABLE read (variant VARCHAR, seed INTEGER, measure VARCHAR, conversation_id VARCHAR,"
        ' "case" VARCHAR, weight DOUBLE, model DOUBLE, base DOUBLE)'
    )
    for (variant, seed), folder in folders.items():
        connection.execute(
            'INSERT INTO read SELECT $1, $2, measure, conversation_id, "case", weight, model, base'
            " FROM read_parquet($3) WHERE list_contains($4, measure)",
            [variant, seed, str(folder / "cases.parquet"), list(MEASURES)],
        )
    connection.execute(
        "CREATE TABLE cases AS SELECT *, dense_rank() OVER (ORDER BY conversation_id) AS conversation FROM read"
    )


def _columns(connection: "DuckDBPyConnection", query: str, parameters: Sequence[object]) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in connection.execute(query, parameters).fetchnumpy().items()}


def write_results(
    folders: Mapping[tuple[str, int], Path],
    out: Path,
    settings: ComparisonSettings | None = None,
    left_out: Mapping[str, str] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> str:
    """Write `study.md`, `study.json`, `study.png` and `report.html` into the folder `out`; returns the Markdown.

    `folders` are those that `evaluate` wrote, by variant and seed; cells that have not been made are missed in
    the text and nowhere else. `left_out` says of cells that have been made why they are not among them; `provenance`
    where all cells come from, as names and values.
    """
    from adc_pipeline.study.figures import draw_study

    read = read_study(folders, settings or ComparisonSettings())
    said = conclusions(read)
    tables = {"Figures": figures_table(read), "Seeds": seeds_table(read), "Differences": differences_table(read)}
    made = f"{len(folders)} cells: {len(read.seeds)} of the grid's {len(VARIANTS)} variants."
    others = not_among_them(left_out or {})
    text = "\n".join(
        [
            *(f"{sentence}\n" for sentence in (made, *others)),
            *(f"- {sentence}" for sentence in said),
            "",
            *(f"**{title}**\n\n{table.caption}\n\n{table.markdown()}" for title, table in tables.items()),
        ]
    )
    (out / "study.md").write_text(text, encoding="utf-8")
    (out / "study.json").write_text(json.dumps(_flat(read), indent=1, allow_nan=False) + "\n")
    plot = draw_study(read, out / "study.png")
    sections = [
        Section("What may be concluded, and what may not", (*others, *said), (plot,)),
        *(Section(title, (table.caption,), (), (table,)) for title, table in tables.items()),
        Section("How to read this", (INTERVALS, *MEANINGS)),
    ]
    if provenance:
        sections.append(Section("Provenance", (), (), (Table(["what", "value"], list(provenance.items())),)))
    (out / "report.html").write_text(page("Study", made, sections), encoding="utf-8")
    return text


def not_among_them(left_out: Mapping[str, str]) -> list[str]:
    """A sentence for each reason for which cells that have been made are left out."""
    names: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    said = [
        f"Left out, since {reason}: {len(of)} cell{'s' * (len(of) > 1)}, {', '.join(of)}."
        for reason, of in names.items()
    ]
    rule = "Compared are cells that this code made of what is in place now, with the settings of the one made last."
    return [rule, *said] if said else []


def figures_table(study: Study) -> Table:
    """One row a variant: the mean over its seeds with its interval; then the base model."""
    rows = [
        [name, str(len(study.seeds[name])), *(figure(found.get(measure)) for measure in MEASURES)]
        for name, found in study.estimates.items()
    ]
    rows += [
        [f"{BASE}, cases of {name}", "–", *(figure(found.get(measure)) for measure in MEASURES)]
        for name, found in study.base.items()
        if VARIANTS[name].reference.name == name
    ]
    rests = {each.conversations for found in study.estimates.values() for each in found.values()} - {0}
    caption = (
        f"Means over the seeds; intervals over {min(rests, default=0):,} to {max(rests, default=0):,} conversations."
        " A dash is a measure that means nothing for the variant."
    )
    if len({VARIANTS[name].evaluated_on for name in study.estimates}) > 1:
        caption += (
            " In-context improvement and bits per byte are of top-2's turns for the variants of top-2, and of"
            " random-walk's for the others: they are not compared."
        )
    if told := [name for name in study.estimates if VARIANTS[name].markers_stand == "before"]:
        caption += (
            f" Bits per byte of {', '.join(told)} are of turns whose verdict was told before, and are not compared with"
            " those of others."
        )
    return Table(["variant", "seeds", *MEASURES], rows, caption)


def seeds_table(study: Study) -> Table:
    """One row a variant: what each seed gave."""

    def given(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.3f}".replace("-", "−") for value in values) or "–"

    rows = [[name, *(given(found.get(measure, ())) for measure in MEASURES)] for name, found in study.by_seed.items()]
    return Table(["variant", *MEASURES], rows, "What each seed gave, in the order of the seeds.")


def differences_table(study: Study) -> Table:
    """One row a test."""
    rows = [
        [
            f"{test.first} − {test.second}",
            test.measure,
            figure(difference),
            p_value(difference.p),
            p_value(study.corrected.get(test)),
            f"{difference.cases:,} ({difference.conversations:,})",
        ]
        for test, difference in study.tests.items()
    ]
    header = ["compared", "measure", "difference", "p", "p (Holm)", "cases (conversations)"]
    return Table(header, rows, f"Paired by case; Holm's correction is for these {len(study.corrected)} tests together.")


def _flat(study: Study) -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for name, found in study.estimates.items():
        for measure, estimate in found.items():
            flat |= {
                f"{name}.{measure}": estimate.value,
                f"{name}.{measure}.low": estimate.low,
                f"{name}.{measure}.high": estimate.high,
            }
    for test, difference in study.tests.items():
        of = f"{test.first}_minus_{test.second.replace(' ', '_')}.{test.measure}"
        flat |= {of: difference.value, f"{of}.p": difference.p, f"{of}.p_holm": study.corrected.get(test)}
    return flat
