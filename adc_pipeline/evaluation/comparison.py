"""Several evaluations side by side, as a page, as flat figures, and as plots.

Two models that were asked about the same cases are compared case by case, with the interval and the test
over conversations. Preference accuracy and steering ask every model about the same cases of the same
conversations. The measures over walks rest on each dataset's own walks, and are paired between models of one
dataset only: which turns two datasets have in common, their verdicts decide.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from adc_pipeline.evaluation.bootstrap import Difference, Estimate, holm, paired_difference
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.learned import told_alike
from adc_pipeline.evaluation.report import comparison_page
from adc_pipeline.evaluation.settings import ComparisonSettings

# By measure, all readings of it. Not perplexity, whose logarithm bits per byte are.
PAIRED = ("preference_accuracy", "steering")
PAIRED_OF_ONE_DATASET = ("in_context_improvement", "verdict_calibration")
PAIRED_IF_TOLD_ALIKE = ("bits_per_byte",)

Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """The evaluations by name, and the paired differences (first minus second) by pair and measure."""

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[Pair, Mapping[str, Difference]]

    def corrected(self) -> dict[tuple[Pair, str], float]:
        """The p-values of all differences, corrected for being tested together."""
        return holm(
            {
                (pair, measure): difference.p
                for pair, found in self.differences.items()
                for measure, difference in found.items()
                if difference.p is not None
            }
        )

    def metrics(self) -> dict[str, float | None]:
        """Flat: NAME.MEASURE for every estimate of every evaluation's model and NAME.base.MEASURE of its base,
        and FIRST_minus_SECOND.MEASURE with its interval, what it rests on, p and p_holm.
        """
        flat: dict[str, float | None] = {}
        for name, evaluation in self.evaluations.items():
            flat |= {f"{name}.{measure}": estimate.value for measure, estimate in evaluation.model.items()}
            flat |= {f"{name}.base.{measure}": estimate.value for measure, estimate in evaluation.base.items()}
        corrected = self.corrected()
        for pair, found in self.differences.items():
            for measure, difference in found.items():
                figures = asdict(difference)
                of = f"{pair[0]}_minus_{pair[1]}.{measure}"
                flat[of] = figures.pop("value")
                flat |= {f"{of}.{key}": value for key, value in figures.items()}
                flat[f"{of}.p_holm"] = corrected.get((pair, measure))
        return flat


def paired_differences(first: Path, second: Path, settings: ComparisonSettings | None = None) -> dict[str, Difference]:
    """Differences (first minus second) over the cases that two folders of `evaluate` share, by measure.

    A folder's own name for a case is its conversation and its utterances, so equal names are equal cases.
    The measures over walks are compared where both folders are about one and the same test split, and bits
    per byte only where a turn's verdict was told before the turn to both models or to neither. The p-values
    are those of single tests: correct all that are made together with `bootstrap.holm`.
    """
    import pyarrow.parquet

    settings = settings or ComparisonSettings()
    names = ["measure", "conversation_id", "case", "model", "weight"]
    found: list[dict[tuple[str, str, str], tuple[float, float]]] = []
    for folder in (first, second):
        columns = pyarrow.parquet.read_table(folder / "cases.parquet", columns=names).to_pydict()
        keys = zip(*(columns[name] for name in names[:3]), strict=True)
        found.append(dict(zip(keys, zip(columns["model"], columns["weight"], strict=True), strict=True)))
    ours, theirs = found
    one, other = Evaluation.read(first), Evaluation.read(second)
    paired: tuple[str, ...] = PAIRED
    if one.test_split == other.test_split:
        paired += PAIRED_OF_ONE_DATASET
        if told_alike(one.markers, other.markers):
            paired += PAIRED_IF_TOLD_ALIKE
    shared: dict[str, list[tuple[str, float, float, float]]] = {}
    for key, (value, weight) in ours.items():
        measure, conversation, _ = key
        if key in theirs and measure.split(".")[0] in paired:
            shared.setdefault(measure, []).append((conversation, value, theirs[key][0], weight))
    differences = {}
    for measure, cases in shared.items():
        conversations, *columns_of = zip(*cases, strict=True)
        number = np.unique(np.array(conversations), return_inverse=True)[1].astype(np.int64)
        ours_of, theirs_of, weights = (np.array(column) for column in columns_of)
        differences[measure] = paired_difference(
            ours_of, theirs_of, weights, number, settings.draws, settings.draw_seed
        )
    return differences


def compare(evaluations: Mapping[str, Path], out: Path, settings: ComparisonSettings | None = None) -> Comparison:
    """Compare the folders that `evaluate` wrote, by the names they shall have.

    `out` is an empty folder and receives `report.html`, `comparison.json` and the plots.
    """
    read = {name: Evaluation.read(folder) for name, folder in evaluations.items()}
    differences = {
        (first, second): paired_differences(evaluations[first], evaluations[second], settings)
        for first, second in combinations(evaluations, 2)
    }
    comparison = Comparison(read, differences)
    text = json.dumps(comparison.metrics(), indent=1, allow_nan=False)
    (out / "comparison.json").write_text(text + "\n")
    length = next((each.length for each in read.values() if each.length), {})
    series: dict[str, Mapping[str, Estimate]] = {name: each.model for name, each in read.items()}
    # Each model's own, since the measures over walks are of each dataset's own cases.
    series |= {f"base of {name}": each.base for name, each in read.items()}
    plots = draw(out, {**series, "length alone": length})
    (out / "report.html").write_text(comparison_page(comparison, plots), encoding="utf-8")
    return comparison
