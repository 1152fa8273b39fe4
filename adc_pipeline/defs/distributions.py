"""Draw histograms of columns: one panel a column, long tails on a logarithmic scale.

DuckDB counts the rows of each distinct value, so that a picture of ten million scores moves a few thousand numbers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.pictures import SINGLE

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COUNT = """
SELECT ({expression})::DOUBLE AS value, count(*) AS number
FROM (FROM read_parquet($1, hive_partitioning = false) {limit})
GROUP BY value HAVING value IS NOT NULL
"""
# Rows that are counted where the first ones are a random sample.
SAMPLE = 50_000


def distributions(
    files: Sequence[str], columns: Mapping[str, str], engine: Engine, in_random_order: bool = False
) -> "Figure":
    """Draw a histogram of each SQL expression in `columns`, by label, over Parquet files.

    Rows `in_random_order`, such as those of datasets, are drawn by the first `SAMPLE` of them.
    """
    from matplotlib.figure import Figure

    width, height = 3.2 * len(columns), 2.4
    figure = Figure(figsize=(width, height), dpi=90)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    # In inches, as the labels need. A layout that matplotlib computes draws everything twice.
    figure.subplots_adjust(0.65 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.1 / height, wspace=0.25)
    sampled = in_random_order and row_count(files) > SAMPLE
    limit = f"LIMIT {SAMPLE}" if sampled else ""
    with engine.connect() as connection:
        for axes, (label, expression) in zip(panels, columns.items(), strict=True):
            rows = connection.execute(COUNT.format(expression=expression, limit=limit), [list(files)]).fetchnumpy()
            axes.set_xlabel(label)
            histogram(axes, rows["value"], rows["number"])
    panels[0].set_ylabel(f"count in {SAMPLE:,}" if sampled else "count")
    return figure


def histogram(axes: "Axes", values: "NDArray[np.float64]", counts: "NDArray[np.int64]") -> None:
    """Draw distinct values and the number of rows of each, with a logarithmic count."""
    import numpy as np
    from matplotlib.ticker import EngFormatter, NullLocator

    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    if not len(values):
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes)
        return
    # arcsinh is linear around zero and logarithmic beyond, also for negative scores.
    long_tailed = np.ptp(values) > 100
    scaled = np.arcsinh(values) if long_tailed else values
    bins = min(40, max(1, int(np.ptp(values)) + 1))
    heights, edges = np.histogram(scaled, bins=bins, weights=counts)
    axes.stairs(heights, np.sinh(edges) if long_tailed else edges, fill=True, color=SINGLE)
    if long_tailed:
        axes.set_xscale("symlog", linthresh=10)
    # Powers of ten as formulas, and the ticks between them, would take more time than all the rest.
    for axis in (axes.xaxis, axes.yaxis) if long_tailed else (axes.yaxis,):
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_locator(NullLocator())
