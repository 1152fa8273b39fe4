"""Distributions as one picture: a panel a column, long tails on a logarithmic scale.

Counting happens in DuckDB, value by value, so that a picture of ten million scores moves a few thousand
numbers. Colours and line weights hold in print and for colour-blind readers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.palette import SINGLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNT = """
SELECT ({expression})::DOUBLE AS value, count(*) AS number FROM read_parquet($1)
GROUP BY value HAVING value IS NOT NULL
"""


def distributions(files: Sequence[str], columns: Mapping[str, str], engine: Engine) -> "Figure":
    """A histogram of each SQL expression in `columns` (label: expression) over Parquet files."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(columns), 2.4), layout="constrained", dpi=90)
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for panel, (label, expression) in zip(axes, columns.items(), strict=True):
        with engine.connect() as connection:
            rows = connection.execute(COUNT.format(expression=expression), [list(files)]).fetchnumpy()
        values, counts = rows["value"], rows["number"]
        panel.set_xlabel(label)
        panel.set_yscale("log")
        panel.spines[["top", "right"]].set_visible(False)
        if not len(values):
            panel.text(0.5, 0.5, "no data", ha="center", transform=panel.transAxes)
            continue
        # arcsinh is linear around zero and logarithmic beyond, also for negative scores.
        long_tailed = np.ptp(values) > 100
        scaled = np.arcsinh(values) if long_tailed else values
        bins = min(40, max(1, int(np.ptp(values)) + 1))
        heights, edges = np.histogram(scaled, bins=bins, weights=counts)
        edges = np.sinh(edges) if long_tailed else edges
        panel.stairs(heights, edges, fill=True, color=SINGLE)
        if long_tailed:
            panel.set_xscale("symlog", linthresh=10)
    axes[0].set_ylabel("count")
    return figure
