"""Histograms count every row of every file once, and state it if there is no data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.patches import StepPatch

from adc_pipeline.core.engine import Engine
from adc_pipeline.defs.distributions import distributions


@pytest.mark.parametrize("long_tailed", [False, True])
def test_a_panel_counts_the_rows_of_all_files(tmp_path: Path, long_tailed: bool) -> None:
    values = np.random.default_rng(0).integers(-9, 10, 500) ** (3 if long_tailed else 1)
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, part in zip(files, np.split(values, 2), strict=True):
        pq.write_table(pa.table({"score": pa.array([*part.tolist(), None])}), file)
    figure = distributions([str(file) for file in files], {"score": "score", "none": "NULL"}, Engine())
    scores, none = figure.axes
    (steps,) = [patch for patch in scores.patches if isinstance(patch, StepPatch)]
    heights, edges, _ = steps.get_data()
    assert heights.sum() == len(values)
    assert (edges[0], edges[-1]) == pytest.approx((values.min(), values.max()))
    assert heights[0] >= (values == values.min()).sum()
    assert (scores.get_xscale() == "symlog") == long_tailed
    assert [text.get_text() for text in none.texts] == ["no data"]


def test_rows_in_random_order_are_drawn_by_the_first_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adc_pipeline.defs.distributions.SAMPLE", 30)
    pq.write_table(pa.table({"score": [0] * 30 + [1] * 70}), file := tmp_path / "a.parquet")
    for in_random_order, counted in ((True, 30), (False, 100)):
        (axes,) = distributions([str(file)], {"score": "score"}, Engine(), in_random_order).axes
        (steps,) = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert steps.get_data()[0].sum() == counted
        assert axes.get_ylabel() == ("count in 30" if in_random_order else "count")
