"""Plots of estimates, side by side: what `evaluation` draws of a model and its base, and `comparison` of all.

Intervals are bars, chance and zero are dashed lines. A measure without cases leaves a
gap; a plot of measures that no series has is not drawn. Cost: about 1.9 s for the five, and
0.5 s to import matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.palette import COLOURS, SHAPES
from adc_pipeline.evaluation.bootstrap import Estimate
from adc_pipeline.evaluation.measures import BINS, GAP_BINS, K_BINS, RELIABILITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Label of a series, and its estimates by the names of the measures.
Series = Mapping[str, Mapping[str, Estimate]]

# Title, what a model that knows nothing gets, and unit.
HEADLINE = {
    "preference_accuracy": ("Preference accuracy", 0.5, "share of cases"),
    "steering": ("Steering", 0.5, "share of cases"),
    "in_context_improvement": ("In-context improvement", 0.0, "bits per byte (negative is better)"),
}
BITS_PER_BYTE = {
    "all turns": "bits_per_byte",
    "accepted": "bits_per_byte.accepted",
    "rejected": "bits_per_byte.rejected",
}


def bin_label(name: str) -> str:
    """`k4plus` -> `4+`, `gap2-3` -> `2–3`."""
    return name.removeprefix("gap").removeprefix("k").replace("plus", "+").replace("-", "–")


def style(series: Series, name: str) -> tuple[str, str]:
    """Colour and shape of a series, the same in every plot."""
    place = list(series).index(name)
    return COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]


def in_any(series: Series, measure: str) -> bool:
    return any(measure in estimates for estimates in series.values())


def points(axes: "Axes", series: Series, measures: Sequence[str], labels: Sequence[str]) -> None:
    """One group of points with intervals a measure along the horizontal axis, one point a series."""
    shown = {name: each for name, each in series.items() if any(m in each for m in measures)}
    for index, (name, estimates) in enumerate(shown.items()):
        shift = (index - (len(shown) - 1) / 2) * min(0.18, 0.7 / len(shown))
        colour, shape = style(series, name)
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
    """One legend below the plot, with the series of all its panels, of which each may lack some."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    columns = min(len(shown), 4)
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=columns, columnspacing=1.2, frameon=False)


def with_cases(series: Series, measure: str, label: str) -> str:
    """A tick label with the number of cases below it; a range where the series differ."""
    counts = sorted({estimates[measure].cases for estimates in series.values() if measure in estimates})
    if not counts:
        return label
    return f"{label}\nn = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def headline(figure: "Figure", series: Series) -> None:
    known = [measure for measure in HEADLINE if in_any(series, measure)]
    for axes, measure in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        title, chance, unit = HEADLINE[measure]
        points(axes, series, [measure], [with_cases(series, measure, "all cases")])
        axes.set_title(title)
        level(axes, chance, "chance, or no improvement")
        axes.set_ylabel(unit)


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


def calibration(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1, label="calibrated")
    for name, estimates in series.items():
        colour, shape = style(series, name)
        known = []
        for bin in range(BINS):
            predicted = estimates.get(f"{RELIABILITY}.predicted.bin{bin}")
            accepted = estimates.get(f"{RELIABILITY}.accepted.bin{bin}")
            if predicted is None or accepted is None or predicted.value is None or accepted.value is None:
                continue
            value, low, high = accepted.value, accepted.low, accepted.high
            below, above = 0.0 if low is None else value - low, 0.0 if high is None else high - value
            known.append((predicted.value, value, below, above))
            axes.annotate(
                f"{accepted.cases:,}",
                (predicted.value, value),
                textcoords="offset points",
                xytext=(7, -10),
                fontsize=7,
                color=colour,
            )
        if known:
            places, values, below_each, above_each = zip(*known, strict=True)
            axes.errorbar(
                places, values, yerr=(below_each, above_each), fmt=shape, color=colour, capsize=3,
                markersize=6, label=name,
            )  # fmt: skip
    axes.set_xlim(-0.02, 1.05)
    axes.set_ylim(-0.05, 1.05)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("mean P(accepted) of the turns in a bin (number of turns beside it)")
    axes.set_ylabel("share that was accepted")


def bits_per_byte(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    labels = [with_cases(series, name, label) for label, name in BITS_PER_BYTE.items()]
    points(axes, series, list(BITS_PER_BYTE.values()), labels)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bits per byte of held-out turns")


# By name: how it is drawn, and a measure without which it is not.
PLOTS: dict[str, tuple[Callable[["Figure", Series], None], str]] = {
    "headline.png": (headline, "in_context_improvement"),
    "in_context_improvement.png": (in_context_curve, "in_context_improvement"),
    "preference_accuracy_by_gap.png": (accuracy_by_gap, "preference_accuracy"),
    "calibration.png": (calibration, "verdict_calibration.brier"),
    "bits_per_byte.png": (bits_per_byte, "bits_per_byte"),
}


def draw(out: Path, series: Series) -> list[Path]:
    """Write the plots of the series into the folder `out`, and say where they are.

    More than seven series share colours and shapes; a grid wants a plot of its own.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {name: plot for name, (plot, measure) in PLOTS.items() if in_any(series, measure)}
    for name, plot in drawn.items():
        figure = Figure(figsize=(8.5, 4.2), layout="constrained", dpi=160)
        FigureCanvasAgg(figure)
        plot(figure, series)
        legend(figure)
        # Without the date and version that matplotlib writes by itself, equal plots are equal bytes.
        figure.savefig(out / name, metadata={"Software": None})
    return [out / name for name in drawn]
