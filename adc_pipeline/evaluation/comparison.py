"""Compare evaluations: paired differences over the cases that two models share.

Preference accuracy, steering and rejection contrast put the same questions to every model, about the same cases of the
same conversations. So does policy improvement, where both have the same judge.
The other measures rest on the walks of a dataset and are paired between models of one dataset only: verdicts decide
which turns two datasets share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from adc_pipeline.evaluation.applicability import comparable_bits
from adc_pipeline.evaluation.case_table import read_case_values
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.intervals.estimate import Difference
from adc_pipeline.evaluation.intervals.significance import corrected, paired_difference
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.settings import ComparisonSettings

# By measure, with all its readings. Perplexity is not among them: its logarithm is bits per byte.
OF_EVERY_DATASET = ("preference_accuracy", "steering", "rejection_contrast")
OF_ONE_DATASET = ("in_context_improvement", "verdict_calibration")
OF_COMPARABLE_BITS = ("bits_per_byte",)
OF_ONE_JUDGE = ("policy_improvement",)

Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """The evaluations by name, and the paired differences (first minus second) by pair and measure."""

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[Pair, Mapping[str, Difference]]

    def corrected(self) -> dict[tuple[Pair, str], float]:
        """Return the p-values of all differences, corrected by Holm's method for being tested together."""
        return corrected(
            {
                (pair, measure): difference
                for pair, found in self.differences.items()
                for measure, difference in found.items()
            }
        )

    def metrics(self) -> dict[str, float | None]:
        """Return all figures by flat names.

        NAME.MEASURE is an estimate of an evaluation's model, NAME.base.MEASURE one of its base model.
        FIRST_minus_SECOND.MEASURE is a difference, with .low, .high, .cases, .conversations, .p and .p_holm.
        """
        flat: dict[str, float | None] = {}
        for name, evaluation in self.evaluations.items():
            flat |= {f"{name}.{measure}": estimate.value for measure, estimate in evaluation.model.items()}
            flat |= {f"{name}.base.{measure}": estimate.value for measure, estimate in evaluation.base.items()}
        corrected = self.corrected()
        for pair, found in self.differences.items():
            for measure, difference in found.items():
                figures = difference.figures()
                name = f"{pair[0]}_minus_{pair[1]}.{measure}"
                flat[name] = figures.pop("value")
                flat |= {f"{name}.{key}": value for key, value in figures.items()}
                flat[f"{name}.p_holm"] = corrected.get((pair, measure))
        return flat


def read_comparison(folders: Mapping[str, Path], settings: ComparisonSettings) -> Comparison:
    """Compare every two of the evaluation folders, given by name."""
    differences = {
        (first, second): paired_differences(folders[first], folders[second], settings)
        for first, second in combinations(folders, 2)
    }
    return Comparison({name: Evaluation.read(folder) for name, folder in folders.items()}, differences)


def paired_differences(first: Path, second: Path, settings: ComparisonSettings) -> dict[str, Difference]:
    """Return the differences, first minus second, over the cases that two evaluation folders share, by measure.

    Measures over walks are compared if both folders rest on the same test split, and bits per byte only if both models
    or neither read a turn's verdict before the turn. The p-values are those of single tests: correct all that are made
    together with `significance.holm`.
    """
    measures = comparable_measures(Evaluation.read(first), Evaluation.read(second))
    ours, theirs = read_case_values(first), read_case_values(second)
    shared: dict[str, list[tuple[str, float, float, float]]] = {}
    for key, (value, weight) in ours.items():
        measure, conversation, _ = key
        if key in theirs and family(measure) in measures:
            shared.setdefault(measure, []).append((conversation, value, theirs[key][0], weight))
    differences = {}
    for measure, cases in shared.items():
        conversations, *columns = zip(*cases, strict=True)
        number = np.unique(np.array(conversations), return_inverse=True)[1].astype(np.int64)
        our_values, their_values, weights = (np.array(column) for column in columns)
        differences[measure] = paired_difference(
            our_values, their_values, weights, number, settings.draws, settings.draw_seed
        )
    return differences


def comparable_measures(one: Evaluation, other: Evaluation) -> tuple[str, ...]:
    """Return the measures in which two models can be compared case by case."""
    judged = OF_ONE_JUDGE if one.judge_digest == other.judge_digest else ()
    if one.test_split != other.test_split:
        return OF_EVERY_DATASET + judged
    bits = OF_COMPARABLE_BITS if comparable_bits(one.markers, other.markers) else ()
    return OF_EVERY_DATASET + judged + OF_ONE_DATASET + bits
