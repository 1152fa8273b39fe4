"""Read the figures of an evaluation by source, such as by subreddit, from its cases.

The right community helps a model and a random one hurts it (ComPO, Kumar et al. 2024), so one figure for all
communities can hide both. `cases.parquet` names the conversation of each case, and its source.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adc_pipeline.core.engine import connected
from adc_pipeline.evaluation.case_table import CASE_TABLE
from adc_pipeline.evaluation.intervals.bootstrap import ratio_estimates
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.measures import exponentiated

CASES = """
SELECT measure, source, conversation_id, weight, model, base FROM read_parquet($cases, hive_partitioning = false)
ORDER BY measure, source
"""
# The names of measures whose figures are exponentials of the ratio.
EXPONENTIAL = "perplexity"


class SourceFigure(NamedTuple):
    """One measure over the conversations of one source: the model's figure and the base model's, if it has one."""

    measure: str
    source: str
    model: Estimate
    base: Estimate | None


def figures_by_source(evaluation: Path, draws: int = 1000, seed: int = 0) -> Iterator[SourceFigure]:
    """Yield each measure by source, with 95 % intervals over the conversations of that source.

    `evaluation` is the folder of an evaluation; `draws` and `seed` are those of the bootstrap.
    """
    with connected() as connection:
        rows = connection.execute(CASES, {"cases": str(evaluation / CASE_TABLE)}).fetchnumpy()
    measures, sources = rows["measure"].astype(str), rows["source"].astype(str)
    names = np.char.add(np.char.add(measures, "\n"), sources)
    for name in dict.fromkeys(names.tolist()):
        of = names == name
        conversations = np.unique(rows["conversation_id"][of].astype(str), return_inverse=True)[1]
        weights = np.asarray(rows["weight"][of], dtype=np.float64)
        base = np.ma.filled(np.ma.asarray(rows["base"][of], dtype=np.float64), np.nan)
        series = [np.asarray(rows["model"][of], dtype=np.float64), *([] if np.isnan(base).any() else [base])]
        found = ratio_estimates(np.stack(series), np.stack([weights] * len(series)), conversations, draws, seed)
        measure, _, source = name.partition("\n")
        figures = [exponentiated(each) if measure.startswith(EXPONENTIAL) else each for each in found]
        yield SourceFigure(measure, source, figures[0], figures[1] if len(figures) > 1 else None)
