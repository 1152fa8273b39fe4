"""Plots of estimates, series beside series: a model and its baselines, or all models of a comparison.

Bars are confidence intervals, dashed lines are chance or zero. A measure without cases leaves a gap; a plot whose
measures no series has is not drawn. Cost: about 1.9 s for the five plots, and 0.5 s to import matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adc_pipeline.core.pictures import COLOURS, SHAPES, png
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.measures import BINS, CURVE, GAP_BINS, RELIABILITY
from adc_pipeline.evaluation.replies.policy import ALL_CONTROLS, INSTRUCT, POLICY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Estimates by label of the series and by measure.
Series = Mapping[str, Mapping[str, Estimate]]

# Title, chance level and unit.
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
    """Return the label of a bin: `4+` of `k4plus`, `2–3` of `gap2-3`."""
    return name.removeprefix("gap").removeprefix("k").replace("plus", "+").replace("-", "–")


def style(series: Series, name: str) -> tuple[str, str]:
    """Return colour and shape of a series, the same in every plot."""
    position = list(series).index(name)
    return COLOURS[position % len(COLOURS)], SHAPES[position % len(SHAPES)]


def error_bars(axes: "Axes", series: Series, name: str, points: Sequence[tuple[float, Estimate]]) -> None:
    """Draw the estimates of a series, each at its horizontal position, with their intervals."""
    known = [(x, each, each.value) for x, each in points if each.value is not None]
    if not known:
        return
    colour, shape = style(series, name)
    axes.errorbar(
        [x for x, _, _ in known],
        [value for _, _, value in known],
        yerr=(
            [0.0 if each.low is None else value - each.low for _, each, value in known],
            [0.0 if each.high is None else each.high - value for _, each, value in known],
        ),
        fmt=shape,
        color=colour,
        capsize=3,
        markersize=6,
        label=name,
    )


def light_frame(axes: "Axes", grid: str) -> None:
    """Draw the grid of one axis, or of both, behind the data, and no frame above and right of it."""
    axes.grid(axis=grid, color="0.9")  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def in_any(series: Series, measure: str) -> bool:
    return any(measure in estimates for estimates in series.values())


def groups(axes: "Axes", series: Series, measures: Sequence[str], labels: Sequence[str]) -> None:
    """Draw a group of points for each measure, one point a series, with intervals."""
    shown = {name: each for name, each in series.items() if any(m in each for m in measures)}
    for index, (name, estimates) in enumerate(shown.items()):
        shift = (index - (len(shown) - 1) / 2) * min(0.18, 0.7 / len(shown))
        found = [(place + shift, estimates[m]) for place, m in enumerate(measures) if m in estimates]
        error_bars(axes, series, name, found)
    axes.set_xticks(range(len(measures)), labels)
    axes.set_xlim(-0.6, len(measures) - 0.4)
    light_frame(axes, "y")


def level(axes: "Axes", value: float, label: str) -> None:
    axes.axhline(value, color="0.45", linestyle="--", linewidth=1, label=label)


def legend(figure: "Figure") -> None:
    """Draw one legend below the plot, with the series of all panels; a panel may lack some."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    columns = min(len(shown), 4)
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=columns, columnspacing=1.2, frameon=False)


def with_cases(series: Series, measure: str, label: str) -> str:
    """Return a tick label with the number of cases below it; a range where the series differ."""
    counts = sorted({estimates[measure].cases for estimates in series.values() if measure in estimates})
    if not counts:
        return label
    return f"{label}\nn = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def headline(figure: "Figure", series: Series) -> None:
    known = [measure for measure in HEADLINE if in_any(series, measure)]
    for axes, measure in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        title, chance, unit = HEADLINE[measure]
        groups(axes, series, [measure], [with_cases(series, measure, "all cases")])
        axes.set_title(title)
        level(axes, chance, "chance, or no improvement")
        axes.set_ylabel(unit)


def in_context_curve(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    labels = {f"in_context_improvement.{name}": curve_label(k, shown) for name, (k, shown) in CURVE.items()}
    known = [name for name in labels if any(name in each and each[name].cases for each in series.values())]
    groups(axes, series, known, [with_cases(series, name, labels[name]) for name in known])
    level(axes, 0, "no improvement")
    axes.set_xlabel("rejected siblings in the context, of how many before the accepted turn")
    axes.set_ylabel("bits per byte with them, minus without\n(negative is better)")


def curve_label(k: str, shown: int | None) -> str:
    """Return `2 of 3`, `all of 4+`."""
    return f"{'all' if shown is None else shown} of {bin_label(k)}"


def accuracy_by_gap(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    names = [f"preference_accuracy.{name}" for name in GAP_BINS]
    labels = [with_cases(series, name, bin_label(gap)) for name, gap in zip(names, GAP_BINS, strict=True)]
    groups(axes, series, names, labels)
    level(axes, 0.5, "chance")
    axes.set_xlabel("difference of the two scores")
    axes.set_ylabel("preference accuracy")


def calibration(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1, label="calibrated")
    for name, estimates in series.items():
        bins = []
        for bin in range(BINS):
            predicted = estimates.get(f"{RELIABILITY}.predicted.bin{bin}")
            accepted = estimates.get(f"{RELIABILITY}.accepted.bin{bin}")
            if predicted is None or accepted is None or predicted.value is None or accepted.value is None:
                continue
            bins.append((predicted.value, accepted))
            axes.annotate(
                f"{accepted.cases:,}",
                (predicted.value, accepted.value),
                textcoords="offset points",
                xytext=(7, -10),
                fontsize=7,
                color=style(series, name)[0],
            )
        error_bars(axes, series, name, bins)
    axes.set_xlim(-0.02, 1.05)
    axes.set_ylim(-0.05, 1.05)
    light_frame(axes, "both")
    axes.set_xlabel("mean P(accepted) of the turns in a bin (number of turns beside it)")
    axes.set_ylabel("share that was accepted")


def bits_per_byte(figure: "Figure", series: Series) -> None:
    axes = figure.subplots()
    labels = [with_cases(series, name, label) for label, name in BITS_PER_BYTE.items()]
    groups(axes, series, list(BITS_PER_BYTE.values()), labels)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bits per byte of held-out turns")


def policy_curve(figure: "Figure", series: Series) -> None:
    """Draw the judge's score by the number of rejected replies, a panel for each model."""
    models = {name: estimates for name, estimates in series.items() if POLICY in estimates}
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    measured = {name for estimates in models.values() for name in estimates}
    controls = [each for each in ALL_CONTROLS if f"{POLICY}.{each}.k1" in measured]
    curves = {"own replies": "", **{control.replace("_", " "): f".{control}" for control in controls}}
    # The first draw is that of all curves of a model.
    for axes, (name, estimates) in zip(panels, models.items(), strict=True):
        ks = [k for k in range(len(estimates)) if f"{POLICY}.k{k}" in estimates]
        for index, (label, infix) in enumerate(curves.items()):
            points = [
                (k + 0.06 * (index - 2), estimates[found])
                for k in ks
                if (found := f"{POLICY}{infix if k or infix == f'.{INSTRUCT}' else ''}.k{k}") in estimates
            ]
            error_bars(axes, dict.fromkeys(curves, estimates), label, points)
            known = [(x, each.value) for x, each in points if each.value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=COLOURS[index % len(COLOURS)], linewidth=1)
        light_frame(axes, "y")
        axes.set_xticks(ks)
        axes.set_xlabel("rejected replies in the context")
        axes.set_title(with_cases({name: estimates}, f"{POLICY}.k0", name))
    panels[0].set_ylabel("judge's score of the next reply")


class Plot(NamedTuple):
    """How a plot is drawn, the measure without which it is not, and its caption."""

    draw: Callable[["Figure", Series], None]
    needs: str
    caption: str


# By file name, in the order of the reports.
PLOTS = {
    "headline.png": Plot(
        headline, "in_context_improvement", "Preference accuracy, steering and in-context improvement"
    ),
    "in_context_improvement.png": Plot(
        in_context_curve,
        "in_context_improvement",
        "In-context improvement by how many of the rejected siblings before the accepted turn are shown",
    ),
    "policy_improvement.png": Plot(
        policy_curve,
        POLICY,
        "Policy improvement: the judge's score of a reply by the number of rejected replies before it",
    ),
    "preference_accuracy_by_gap.png": Plot(accuracy_by_gap, "preference_accuracy", "Preference accuracy by score gap"),
    "calibration.png": Plot(calibration, "verdict_calibration.brier", "Calibration of P(accepted)"),
    "bits_per_byte.png": Plot(bits_per_byte, "bits_per_byte", "Bits per byte of held-out turns"),
}


def draw(out: Path, series: Series) -> dict[Path, str]:
    """Write the plots of the series into the folder `out`, and return their captions by path.

    More than seven series share colours and shapes.
    """
    from matplotlib.figure import Figure

    captions = {}
    for name, plot in PLOTS.items():
        if not in_any(series, plot.needs):
            continue
        figure = Figure(figsize=(8.5, 4.2), layout="constrained", dpi=160)
        plot.draw(figure, series)
        legend(figure)
        (out / name).write_bytes(png(figure))
        captions[out / name] = plot.caption
    return captions
