"""What a plot calls its series: every one by its name, in whichever panel it is."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from adc_pipeline.evaluation.bootstrap import Estimate
from adc_pipeline.evaluation.comparison import compare
from adc_pipeline.evaluation.figures import headline, legend
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


def test_a_comparison_draws_the_base_of_each_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over walks, a base model has other figures on the cases of another dataset."""
    shown: dict[str, Any] = {}

    def draw(out: Path, series: dict[str, Any]) -> list[Path]:
        shown.update(series)
        return []

    monkeypatch.setattr("adc_pipeline.evaluation.comparison.draw", draw)
    monkeypatch.setattr("adc_pipeline.evaluation.comparison.comparison_page", lambda *_: "")
    folders = {
        name: write_evaluation(tmp_path / name, {"c": 1.0}, perplexity=(2.0, base), test_split=name)
        for name, base in {"top-2": 3.0, "random-walk": 4.0}.items()
    }
    compare(folders, tmp_path)
    drawn = {name: estimates["perplexity"].value for name, estimates in shown.items() if name.startswith("base")}
    assert drawn == {"base of top-2": 3.0, "base of random-walk": 4.0}
