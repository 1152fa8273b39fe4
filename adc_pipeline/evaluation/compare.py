"""Compare evaluations and write the result as a report, as flat figures and as plots."""

import json
from collections.abc import Mapping
from pathlib import Path

from adc_pipeline.evaluation.comparison import Comparison, read_comparison
from adc_pipeline.evaluation.presentation.figures import draw
from adc_pipeline.evaluation.presentation.page import REPORT
from adc_pipeline.evaluation.presentation.report import comparison_page
from adc_pipeline.evaluation.presentation.tables import comparison_series
from adc_pipeline.evaluation.settings import ComparisonSettings


def compare(
    evaluations: Mapping[str, Path],
    out: Path,
    settings: ComparisonSettings | None = None,
    facts: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare the folders that `evaluate` wrote, given by the names to show.

    `facts` are shown at the head of the report: corpus, base model, versions, by label. `out` is an empty folder; it
    receives `report.html`, `comparison.json` and the plots.
    """
    comparison = read_comparison(evaluations, settings or ComparisonSettings())
    text = json.dumps(comparison.metrics(), indent=1, allow_nan=False)
    (out / "comparison.json").write_text(text + "\n")
    plots = draw(out, comparison_series(comparison))
    (out / REPORT).write_text(comparison_page(comparison, plots, facts or {}), encoding="utf-8")
    return comparison
