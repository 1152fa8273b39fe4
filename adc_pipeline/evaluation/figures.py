"""Plots of estimates, side by side: what `evaluation` draws of a model and its base, and `comparison` of all.

Readable in print and by colour-blind people: colours of Okabe and Ito 2008 (*Color Universal Design*),
each with a marker shape of its own, intervals as bars, chance and zero as dashed lines. A measure without
cases leaves a gap. Cost: about 0.8 s for the four, and 0.5 s to import matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.bootstrap import Estimate
from adc_pipeline.evaluation.measures import GAP_BINS, K_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Label of a series, and its estimates by the names of the measures.
Series = Mapping[str, Mapping[str, Estimate]]

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
BITS_PER_BYTE = {
    "all turns": "bits_per_byte",
    "accepted": "bits_per_byte.accepted",
    "rejected": "bits_per_byte.rejected",
}


def bin_label(name: str) -> str:
    """`k4plus` -> `4+`, `gap2-3` -> `2–3`."""
    return name.removeprefix("gap").removeprefix("k").replace("plus", "+").replace("-", "–")


def points(axes: "Axes", series: Series, measures: Sequence[str], labels: Sequence[str]) -> None:
    """One group of points with intervals a measure along the horizontal axis, one point a series."""
    styles = dict(zip(series, zip(COLOURS, SHAPES, strict=True), strict=False))
    shown = {name: each for name, each in series.items() if any(m in each for m in measures)}
    for index, (name, estimates) in enumerate(shown.items()):
        shift = (index - (len(shown) - 1) / 2) * min(0.18, 0.7 / len(shown))
        colour, shape = styles[name]
        known = []
        for place, measure in enumerate(measures):
            estimate = estimates.get(measure)
            if estimate is not None and estimate.value is not None:
                value, low, high = estimate.value, estimate.low, estimate.high
                below, above = 0.0 if low is None else value - low, 0.0 if high is None else high - value
                known.append((place + shift, value, below, above))
        if not known:
            continue
        places, values, below_each, above_each = zip(*known, strict=True)
        axes.errorbar(
            places,
            values,
            yerr=(below_each, above_each),
            fmt=shape,
            color=colour,
            capsize=3,
            markersize=6,
            label=name,
        )
    axes.set_xticks(range(len(measures)), labels)
    axes.set_xlim(-0.6, len(measures) - 0.4)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def level(axes: "Axes", value: float, label: str) -> None:
    axes.axhline(value, color="0.45", linestyle="--", linewidth=1, label=label)


def legend(figure: "Figure") -> None:
    """One legend below the plot, with the series of its first panel."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2, frameon=False)


def with_cases(series: Series, measure: str, label: str) -> str:
    """A tick label with the number of cases below it; a range where the series differ."""
    counts = sorted({estimates[measure].cases for estimates in series.values() if measure in estimates})
    if not counts:
        return label
    return f"{label}\nn = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def headline(figure: "Figure", series: Series) -> None:
    preference, steering, in_context = figure.subplots(1, 3)
    for axes, measure, title in (
        (preference, "preference_accuracy", "Preference accuracy"),
        (steering, "steering", "Steering"),
        (in_context, "in_context_improvement", "In-context improvement"),
    ):
        points(axes, series, [measure], [with_cases(series, measure, "all cases")])
        axes.set_title(title)
    for axes in (preference, steering):
        level(axes, 0.5, "chance")
        axes.set_ylabel("share of cases")
    level(in_context, 0, "no improvement")
    in_context.set_ylabel("bits per byte (negative is better)")


def in_context_curve(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    names = [f"in_context_improvement.{name}" for name in K_BINS]
    labels = [with_cases(series, name, bin_label(k)) for name, k in zip(names, K_BINS, strict=True)]
    points(axes, series, names, labels)
    level(axes, 0, "no improvement")
    axes.set_xlabel("rejected siblings in the context of the accepted turn")
    axes.set_ylabel("bits per byte with them, minus without\n(negative is better)")


def accuracy_by_gap(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    names = [f"preference_accuracy.{name}" for name in GAP_BINS]
    labels = [with_cases(series, name, bin_label(gap)) for name, gap in zip(names, GAP_BINS, strict=True)]
    points(axes, series, names, labels)
    level(axes, 0.5, "chance")
    axes.set_xlabel("difference of the two scores")
    axes.set_ylabel("preference accuracy")


def bits_per_byte(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    labels = [with_cases(series, name, label) for label, name in BITS_PER_BYTE.items()]
    points(axes, series, list(BITS_PER_BYTE.values()), labels)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bits per byte of held-out turns")


PLOTS: dict[str, Callable[["Figure", Series], None]] = {
    "headline.png": headline,
    "in_context_improvement.png": in_context_curve,
    "preference_accuracy_by_gap.png": accuracy_by_gap,
    "bits_per_byte.png": bits_per_byte,
}


def draw(out: Path, series: Series) -> list[Path]:
    """Write the plots of up to seven series into the folder `out`, and say where they are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for name, plot in PLOTS.items():
        figure = Figure(figsize=(8.5, 4), layout="constrained", dpi=110)
        FigureCanvasAgg(figure)
        plot(figure, series)
        legend(figure)
        # Without the date and version that matplotlib writes by itself, equal plots are equal bytes.
        figure.savefig(out / name, metadata={"Software": None})
    return [out / name for name in PLOTS]
