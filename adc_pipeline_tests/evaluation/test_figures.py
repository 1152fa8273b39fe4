"""Plots name every series, whichever panel it is in."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from adc_pipeline.evaluation.compare import compare
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.presentation.figures import headline, legend
from adc_pipeline_tests.promotion.evaluations import write_evaluation

SOME = Estimate(0.6, 0.5, 0.7, 40, 20)


def test_a_legend_names_the_series_of_all_panels_once() -> None:
    figure = Figure(layout="constrained")
    series = {
        "all": {"preference_accuracy": SOME, "steering": SOME, "in_context_improvement": SOME},
        "without the first": {"in_context_improvement": SOME},
    }
    headline(figure, series)
    legend(figure)
    (shown,) = figure.legends
    assert [text.get_text() for text in shown.get_texts()] == ["chance, or no improvement", "all", "without the first"]


def test_a_comparison_draws_every_evaluation_and_its_own_base_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many datasets there are; over walks, a base model has other figures on the cases of another dataset."""
    drawn: dict[str, Any] = {}

    def draw(out: Path, series: dict[str, Any]) -> dict[Path, str]:
        drawn.update(series)
        return {}

    monkeypatch.setattr("adc_pipeline.evaluation.compare.draw", draw)
    monkeypatch.setattr("adc_pipeline.evaluation.compare.comparison_page", lambda *_: "")
    bases = {"top-2": 3.0, "random-walk": 4.0, "ascending": 5.0}
    folders = {
        name: write_evaluation(tmp_path / name, {"c": 1.0}, perplexity=(2.0, base), test_split=name)
        for name, base in bases.items()
    }
    comparison = compare(folders, tmp_path)
    assert list(comparison.differences) == list(combinations(bases, 2))
    assert list(drawn) == [*bases, *(f"base of {name}" for name in bases), "length alone"]
    assert {name: drawn[f"base of {name}"]["perplexity"].value for name in bases} == bases
