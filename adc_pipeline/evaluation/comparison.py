"""Several evaluations side by side, as a table, as flat figures, and as plots.

Preference accuracy and steering ask every model about the same cases of the same conversations, so their
differences are paired: case by case, with the bootstrap over conversations. The measures over walks
(bits per byte, in-context improvement) rest on each dataset's own walks and are only shown side by side.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from adc_pipeline.evaluation.bootstrap import Estimate, ratio_estimate
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.report import estimates_table, figure, table
from adc_pipeline.evaluation.settings import EvaluationSettings

PAIRED = ("preference_accuracy", "steering")

READING = """\
Every figure has its 95 % interval, a bootstrap over conversations; one that rests on fewer than about twenty
of them is too narrow. In top-2 the verdict follows the
ranking, so preference accuracy is what it teaches. In random-walk the verdict is a coin that knows nothing
of the text: its preference accuracy belongs near or below chance, and steering is what it can teach.
"""


@dataclass(frozen=True)
class Comparison:
    """The evaluations by name, and the paired differences (first minus second) by pair and measure."""

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[tuple[str, str], Mapping[str, Estimate]]

    def metrics(self) -> dict[str, float | None]:
        """Flat: NAME.METRIC for every metric of every evaluation, and FIRST_minus_SECOND.MEASURE."""
        flat = {
            f"{name}.{metric}": value
            for name, evaluation in self.evaluations.items()
            for metric, value in evaluation.metrics().items()
        }
        for (first, second), estimates in self.differences.items():
            for measure, estimate in estimates.items():
                figures = asdict(estimate)
                of = f"{first}_minus_{second}.{measure}"
                flat[of] = figures.pop("value")
                flat |= {f"{of}.{key}": value for key, value in figures.items()}
        return flat


def paired_differences(first: Path, second: Path, settings: EvaluationSettings) -> dict[str, Estimate]:
    """Differences over the cases that both evaluation folders have, by measure.

    A folder's own name for a case is the conversation and the utterances, so equal names are equal cases.
    """
    import pyarrow.parquet

    values: list[dict[tuple[str, str, str], float]] = []
    for folder in (first, second):
        columns = pyarrow.parquet.read_table(folder / "cases.parquet").to_pydict()
        keys = zip(columns["measure"], columns["conversation_id"], columns["case"], strict=True)
        values.append(dict(zip(keys, columns["model"], strict=True)))
    ours, theirs = values
    shared: dict[str, list[tuple[str, float]]] = {}
    for key, value in ours.items():
        measure, conversation, _ = key
        if key in theirs and measure.split(".")[0] in PAIRED:
            shared.setdefault(measure, []).append((conversation, value - theirs[key]))
    differences = {}
    for measure, cases in shared.items():
        conversations, apart = zip(*cases, strict=True)
        number = np.unique(np.array(conversations), return_inverse=True)[1].astype(np.int64)
        differences[measure] = ratio_estimate(
            np.array(apart), np.ones(len(apart)), number, settings.draws, settings.seed
        )
    return differences


def compare(evaluations: Mapping[str, Path], out: Path, settings: EvaluationSettings | None = None) -> Comparison:
    """Compare the folders that `evaluate` wrote, by the names they shall have.

    `out` is an empty folder and receives `comparison.md`, `comparison.json` and the plots.
    """
    settings = settings or EvaluationSettings()
    read = {name: Evaluation.read(folder) for name, folder in evaluations.items()}
    differences = {
        (first, second): paired_differences(evaluations[first], evaluations[second], settings)
        for first, second in combinations(evaluations, 2)
    }
    comparison = Comparison(read, differences)
    text = json.dumps(comparison.metrics(), indent=1, allow_nan=False)
    (out / "comparison.json").write_text(text + "\n")
    (out / "comparison.md").write_text(report(comparison), encoding="utf-8")
    first = next(iter(read.values()))
    # Over walks, the base has figures on every dataset's own cases; the plots show those with most cases.
    base = {
        measure: max((each.base[measure] for each in read.values()), key=lambda estimate: estimate.cases)
        for measure in first.base
    }
    models = {name: each.model for name, each in read.items()}
    draw(out, {"base model": base, **models, "length alone": first.length})
    return comparison


def report(comparison: Comparison) -> str:
    """The side-by-side table and the paired differences."""
    read = comparison.evaluations
    columns = {name: each.model for name, each in read.items()}
    columns |= {f"base of {name}": each.base for name, each in read.items()}
    columns["length alone"] = next(iter(read.values())).length
    parts = ["# Comparison\n", READING, estimates_table(columns, list(read))]
    for (first, second), estimates in comparison.differences.items():
        rows = [
            [measure, figure(estimate), f"{estimate.cases:,}", f"{estimate.conversations:,}"]
            for measure, estimate in estimates.items()
        ]
        parts += [
            f"## {first} minus {second}\n",
            "The same cases, paired.\n",
            table(["measure", "difference", "cases", "conversations"], rows),
        ]
    return "\n".join(parts)
