"""The statistics of the study: mean over seeds, paired by case, clustered by conversation, Holm-corrected.

The seeds of a variant answer the same cases. The value of a case is its mean over the seeds that both compared variants
have, since seeds differ by more than many variants do. Differences are thereby paired by case; intervals are a cluster
bootstrap and tests are sign-flip tests, both over conversations (see `evaluation/bootstrap.py` and
`evaluation/significance.py`). Holm's correction covers every test of the study, those against chance included.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adc_pipeline.core.engine import connected
from adc_pipeline.evaluation.bootstrap import ratio_estimates
from adc_pipeline.evaluation.case_table import CASE_TABLE
from adc_pipeline.evaluation.comparison import OF_EVERY_DATASET
from adc_pipeline.evaluation.estimate import Difference, Estimate
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.settings import ComparisonSettings
from adc_pipeline.evaluation.significance import holm, paired_difference
from adc_pipeline.evaluation.training_facts import comparable_bits
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The measures of the study, each with the value of a model that has learned nothing of it, where that is known.
MEASURES: Mapping[str, float | None] = {
    "preference_accuracy": 0.5,
    "steering": 0.5,
    "in_context_improvement": 0.0,
    "bits_per_byte.accepted": None,
}

Cell = tuple[str, int]  # variant and seed


class Test(NamedTuple):
    """`first` minus `second` in one measure; both are variants, or the second is the base model or chance."""

    first: str
    second: str
    measure: str


@dataclass(frozen=True)
class Study:
    """Estimates by variant and measure, the value of each seed, and all tests with their corrected p-values."""

    seeds: Mapping[str, Sequence[int]]
    estimates: Mapping[str, Mapping[str, Estimate]]
    by_seed: Mapping[str, Mapping[str, Sequence[float]]]
    base: Mapping[str, Mapping[str, Estimate]]
    tests: Mapping[Test, Difference]
    corrected: Mapping[Test, float]
    draws: int  # of signs: no p-value is below 1 / (1 + draws)

    def metrics(self) -> dict[str, float | None]:
        """Return all figures by flat names.

        VARIANT.MEASURE is an estimate, with .low and .high; FIRST_minus_SECOND.MEASURE a difference, with .p and
        .p_holm.
        """
        flat: dict[str, float | None] = {}
        for variant, found in self.estimates.items():
            for measure, estimate in found.items():
                name = f"{variant}.{measure}"
                flat |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
        for test, difference in self.tests.items():
            name = f"{test.first}_minus_{test.second.replace(' ', '_')}.{test.measure}"
            flat |= {name: difference.value, f"{name}.p": difference.p, f"{name}.p_holm": self.corrected.get(test)}
        return flat


def references(variants: Iterable[str]) -> list[str]:
    """Return the variants that others are compared with."""
    return [name for name in variants if VARIANTS[name].reference.name == name]


def read_study(folders: Mapping[Cell, Path], settings: ComparisonSettings) -> Study:
    """Compute the statistics from the folders that `evaluate` wrote."""
    seeds = {name: sorted(seed for variant, seed in folders if variant == name) for name in VARIANTS}
    seeds = {name: found for name, found in seeds.items() if found}
    estimates: dict[str, dict[str, Estimate]] = {}
    base: dict[str, dict[str, Estimate]] = {}
    with connected() as connection:
        create_cases(connection, folders)
        for variant in seeds:
            estimates[variant], base[variant] = variant_estimates(connection, variant, settings)
        by_seed = {
            variant: {measure: seed_values(connection, variant, measure) for measure in found}
            for variant, found in estimates.items()
        }
        tests = {
            test: difference
            for test in planned_tests(estimates)
            if (difference := difference_of(connection, test, settings)) is not None
        }
    p_values = {test: difference.p for test, difference in tests.items() if difference.p is not None}
    return Study(seeds, estimates, by_seed, base, tests, holm(p_values), settings.draws)


def planned_tests(estimates: Mapping[str, Mapping[str, Estimate]]) -> Iterator[Test]:
    """Yield each variant against its base model and its reference, and each reference against chance and the others.

    No other variant is tested against chance: every further test costs all tests power.
    """
    for name, found in estimates.items():
        for measure in found:
            yield Test(name, BASE, measure)
        variant = VARIANTS[name]
        reference = variant.reference.name
        bits = comparable_bits(variant.markers_stand, variant.reference.markers_stand)
        if reference != name and reference in estimates:
            for measure in found:
                if measure in estimates[reference] and (bits or family(measure) != "bits_per_byte"):
                    yield Test(name, reference, measure)
    compared = references(estimates)
    for place, first in enumerate(compared):
        for measure, chance in MEASURES.items():
            if chance is not None and measure in estimates[first]:
                yield Test(first, CHANCE, measure)
        for second in compared[place + 1 :]:
            for measure in OF_EVERY_DATASET:
                if measure in estimates[first] and measure in estimates[second]:
                    yield Test(first, second, measure)


def variant_estimates(
    connection: "DuckDBPyConnection", variant: str, settings: ComparisonSettings
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Estimate the measures of a variant, and of its base model on the same cases."""
    estimates, base = {}, {}
    for measure in MEASURES:
        cases = columns(connection, MEANS, [variant, measure])
        if len(cases["value"]):
            values, weights = np.stack([cases["value"], cases["other"]]), np.stack([cases["weight"]] * 2)
            estimates[measure], base[measure] = ratio_estimates(
                values, weights, cases["conversation"], settings.draws, settings.draw_seed
            )
    return estimates, base


def seed_values(connection: "DuckDBPyConnection", variant: str, measure: str) -> list[float]:
    """Return the value of each seed of a variant, in the order of the seeds."""
    return [value for (value,) in connection.execute(BY_SEED, [variant, measure]).fetchall()]


def difference_of(connection: "DuckDBPyConnection", test: Test, settings: ComparisonSettings) -> Difference | None:
    """Return the paired difference of a test; None where the two share no case."""
    if test.second in (BASE, CHANCE):
        cases = columns(connection, MEANS, [test.first, test.measure])
        if test.second == CHANCE:
            cases["other"] = MEASURES[test.measure] * cases["weight"]
    else:
        cases = columns(connection, PAIRED, list(test))
    if not len(cases["value"]):
        return None
    return paired_difference(
        cases["value"],
        cases["other"],
        cases["weight"],
        cases["conversation"],
        settings.draws,
        settings.draw_seed,
    )


# Each case of a variant, averaged over its seeds, beside its base model.
MEANS = """
SELECT conversation, avg(model) AS value, avg(base) AS other, avg(weight) AS weight
FROM cases WHERE variant = $1 AND measure = $2
GROUP BY conversation, conversation_id, "case" ORDER BY conversation_id, "case"
"""
# Each case of two variants, averaged over the seeds that both have.
PAIRED = """
SELECT ours.conversation, avg(ours.model) AS value, avg(theirs.model) AS other, avg(ours.weight) AS weight
FROM cases AS ours JOIN cases AS theirs USING (seed, measure, conversation_id, "case")
WHERE ours.variant = $1 AND theirs.variant = $2 AND measure = $3
GROUP BY ours.conversation, conversation_id, "case" ORDER BY conversation_id, "case"
"""
BY_SEED = """
SELECT sum(model) / sum(weight) FROM cases WHERE variant = $1 AND measure = $2 GROUP BY seed ORDER BY seed
"""


def create_cases(connection: "DuckDBPyConnection", folders: Mapping[Cell, Path]) -> None:
    """Create the table `cases` with one row a case and cell; `conversation` numbers the conversations."""
    connection.execute(
        "CREATE TABLE read (variant VARCHAR, seed INTEGER, measure VARCHAR, conversation_id VARCHAR,"
        ' "case" VARCHAR, weight DOUBLE, model DOUBLE, base DOUBLE)'
    )
    for (variant, seed), folder in folders.items():
        connection.execute(
            'INSERT INTO read SELECT $1, $2, measure, conversation_id, "case", weight, model, base'
            " FROM read_parquet($3, hive_partitioning = false) WHERE list_contains($4, measure)",
            [variant, seed, str(folder / CASE_TABLE), list(MEASURES)],
        )
    connection.execute(
        "CREATE TABLE cases AS SELECT *, dense_rank() OVER (ORDER BY conversation_id) AS conversation FROM read"
    )


def columns(connection: "DuckDBPyConnection", query: str, parameters: Sequence[object]) -> dict[str, np.ndarray]:
    """Return the result of a query as numpy arrays by column."""
    return {name: np.asarray(column) for name, column in connection.execute(query, parameters).fetchnumpy().items()}
