"""Write evaluation folders as `evaluate` does, for one measure and a few conversations with given answers."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from adc_pipeline.evaluation.arrays import Floats
from adc_pipeline.evaluation.evaluation import VALIDATION, Evaluation
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.intervals.significance import paired_difference

DRAWS = 400


def write_evaluation(
    folder: Path,
    answers: dict[str, float],
    base: float = 0.5,
    metric: str = "preference_accuracy",
    perplexity: tuple[float, float] = (2.0, 3.0),
    test_split: str = "a test split",
    markers: str = "after",
    left_out: dict[str, str] | None = None,
    validation: dict[str, float] | None = None,
) -> Path:
    """Write one case of weight 1 for each of `answers`, by conversation; the base model answers `base` to all.

    `validation` are the answers on the validation split, by default the same; with none, it is as if not measured.
    """
    if validation is None or validation:
        same = {"base": base, "metric": metric, "perplexity": perplexity, "test_split": test_split}
        same |= {"markers": markers, "left_out": left_out}
        write_evaluation(folder / VALIDATION, validation or answers, **same, validation={})  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = np.array(list(answers.values()), dtype=float), np.full(len(answers), base)
    difference = paired_difference(ours, theirs, np.ones(len(ours)), np.arange(len(ours)), DRAWS, 0)

    def estimate(values: Floats) -> Estimate:
        return Estimate(float(values.mean()), None, None, len(values), len(values))

    known = Estimate(perplexity[0], None, None, 1, 1)
    evaluation = Evaluation(
        model={"perplexity": known, metric: estimate(ours)},
        base={"perplexity": replace(known, value=perplexity[1]), metric: estimate(theirs)},
        length={},
        constant={},
        minus_base={metric: difference},
        counts={},
        test_split=test_split,
        objective="mle",
        markers=markers,
        left_out=left_out or {},
    )
    (folder / "evaluation.json").write_text(json.dumps(asdict(evaluation)))
    columns = {
        "measure": [metric] * len(answers),
        "conversation_id": list(answers),
        "case": [f"case of {conversation}" for conversation in answers],
        "weight": [1.0] * len(answers),
        "model": ours,
        "base": theirs,
    }
    pyarrow.parquet.write_table(pa.table(columns), folder / "cases.parquet")
    return folder


def answers(share: float, start: int = 0, conversations: int = 40) -> dict[str, float]:
    """Return answers that are right in this share of conversations, evenly spread, numbered from `start`."""
    right = [int((number + 1) * share) > int(number * share) for number in range(conversations)]
    return {f"c{start + number}": float(each) for number, each in enumerate(right)}
