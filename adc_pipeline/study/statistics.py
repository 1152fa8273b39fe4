"""The statistics of the study: estimates over seeds and conversations, paired differences, Holm's correction.

The seeds of a variant answer the same cases. Seeds and conversations are both samples (see `two_way.py`), and two
variants are compared case by case on the seeds that both have. Holm's correction covers every test of the study, those
against chance included.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from adc_pipeline.core.engine import connected
from adc_pipeline.evaluation.applicability import comparable_bits
from adc_pipeline.evaluation.case_table import CASE_TABLE
from adc_pipeline.evaluation.comparison import OF_EVERY_DATASET
from adc_pipeline.evaluation.intervals.estimate import Difference, Estimate
from adc_pipeline.evaluation.intervals.significance import corrected
from adc_pipeline.evaluation.measures import family
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS
from adc_pipeline.study.two_way import Crossed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The measures of the study, each with the value of a model that has learned nothing of it, where that is known.
MEASURES: Mapping[str, float | None] = {
    "preference_accuracy": 0.5,
    "steering": 0.5,
    "in_context_improvement": 0.0,
    "rejection_contrast": 0.0,
    "bits_per_byte.accepted": None,
}

# The columns of a case table that the statistics read.
TEXTS, NUMBERS = ("measure", "conversation_id", "case"), ("weight", "model", "base", "length")

# The cases of a query of `seed`, `conversation`, `value` and `weight`, summed; `cases` are those of the seed.
SUMS = """
SELECT seed, conversation, sum(value) AS value, sum(weight) AS weight,
    sum(count(*)) OVER (PARTITION BY seed) AS cases
FROM ({}) GROUP BY seed, conversation ORDER BY seed, conversation
"""
OWN = {
    "model": "SELECT *, model AS value FROM cases WHERE variant = $1 AND measure = $2",
    "base": "SELECT *, base AS value FROM cases WHERE variant = $1 AND measure = $2",
    "chance": "SELECT *, model - $3 * weight AS value FROM cases WHERE variant = $1 AND measure = $2",
}
MINUS_BASE = "SELECT *, model - base AS value FROM cases WHERE variant = $1 AND measure = $2"
PAIRED = """
SELECT seed, ours.conversation, ours.model - theirs.model AS value, ours.weight
FROM cases AS ours JOIN cases AS theirs USING (seed, measure, conversation_id, "case")
WHERE ours.variant = $1 AND theirs.variant = $2 AND measure = $3
"""
READ = """
INSERT INTO read SELECT $1, $2, {} FROM read_parquet($3, hive_partitioning = false) WHERE list_contains($4, measure)
"""

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


def read_study(folders: Mapping[Cell, Path]) -> Study:
    """Compute the statistics from the folders that `evaluate` wrote."""
    seeds = {name: sorted(seed for variant, seed in folders if variant == name) for name in VARIANTS}
    seeds = {name: found for name, found in seeds.items() if found}
    with connected() as connection:
        create_cases(connection, {key: folder / CASE_TABLE for key, folder in folders.items()}, MEASURES)
        sums = {
            variant: {measure: found for measure in MEASURES if (found := sums_of(connection, variant, measure))}
            for variant in seeds
        }
        base = {
            variant: {
                measure: found.estimate()
                for measure in measures
                if (found := sums_of(connection, variant, measure, "base"))
            }
            for variant, measures in sums.items()
        }
        estimates = {
            variant: {measure: found.estimate() for measure, found in measures.items()}
            for variant, measures in sums.items()
        }
        tests = {
            test: difference
            for test in planned_tests(estimates)
            if (difference := difference_of(connection, test)) is not None
        }
    by_seed = {
        variant: {measure: found.by_seed.tolist() for measure, found in measures.items()}
        for variant, measures in sums.items()
    }
    return Study(seeds, estimates, by_seed, base, tests, corrected(tests))


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


def sums_of(
    connection: "DuckDBPyConnection", variant: str, measure: str, column: Literal["model", "base", "chance"] = "model"
) -> Crossed | None:
    """Return the sums of a variant's values, of its base model's, or of its values minus chance; None without cases."""
    return crossed(connection, OWN[column], [variant, measure, *([MEASURES[measure]] if column == "chance" else [])])


def difference_of(connection: "DuckDBPyConnection", test: Test) -> Difference | None:
    """Return the paired difference of a test; None where the two share no case."""
    if test.second == CHANCE:
        found = sums_of(connection, test.first, test.measure, "chance")
    elif test.second == BASE:
        found = crossed(connection, MINUS_BASE, [test.first, test.measure])
    else:
        found = crossed(connection, PAIRED, list(test))
    return None if found is None else found.estimate()


def crossed(connection: "DuckDBPyConnection", query: str, parameters: Sequence[object]) -> Crossed | None:
    """Sum the cases of a query by seed and conversation; None without cases."""
    rows = connection.execute(SUMS.format(query), parameters).fetchnumpy()
    if not len(rows["seed"]):
        return None
    return Crossed.of(rows["seed"], rows["conversation"], rows["value"], rows["weight"], int(rows["cases"].max()))


def create_cases(connection: "DuckDBPyConnection", files: Mapping[Cell, Path], measures: Iterable[str]) -> None:
    """Create the table `cases` with one row a case and cell; `conversation` numbers the conversations.

    `files` are case tables, of which the rows of `measures` are read.
    """
    columns = [*(f'"{name}" VARCHAR' for name in TEXTS), *(f'"{name}" DOUBLE' for name in NUMBERS)]
    connection.execute(f"CREATE TABLE read (variant VARCHAR, seed INTEGER, {', '.join(columns)})")
    names = ", ".join(f'"{name}"' for name in (*TEXTS, *NUMBERS))
    for (variant, seed), file in files.items():
        connection.execute(READ.format(names), [variant, seed, str(file), list(measures)])
    connection.execute(
        "CREATE TABLE cases AS SELECT *, dense_rank() OVER (ORDER BY conversation_id) AS conversation FROM read"
    )
