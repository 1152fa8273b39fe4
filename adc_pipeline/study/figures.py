"""The plot of the study: a panel for each measure, a row for each variant, colour and shape by dataset."""

from pathlib import Path

from adc_pipeline.core.pictures import COLOURS, SHAPES, png
from adc_pipeline.study.grid import VARIANTS
from adc_pipeline.study.statistics import MEASURES, Study


def draw_study(study: Study, path: Path) -> Path:
    """Draw the means over seeds with their intervals; ticks mark the seeds, a grey bar marks the base model."""
    from matplotlib.figure import Figure

    variants = list(study.estimates)
    picture = Figure(figsize=(13, 1.4 + 0.27 * len(variants)), layout="constrained", dpi=110)
    panels = picture.subplots(1, len(MEASURES), sharey=True, squeeze=False)[0]
    sources = list(dict.fromkeys(VARIANTS[name].source for name in variants))
    for axes, (measure, chance) in zip(panels, MEASURES.items(), strict=True):
        if chance is not None:
            axes.axvline(chance, color="0.45", linestyle="--", linewidth=1)
        for row, name in enumerate(variants):
            number = sources.index(VARIANTS[name].source) + 1
            colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
            base = study.base[name].get(measure)
            if base is not None and base.value is not None:
                axes.plot([base.value] * 2, [row - 0.4, row + 0.4], color="0.7", linewidth=3, solid_capstyle="butt")
            estimate = study.estimates[name].get(measure)
            if estimate is None or estimate.value is None:
                continue
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.5)
            axes.plot(estimate.value, row, shape, color=colour, markersize=6)
            seeds = study.by_seed[name][measure]
            axes.plot(seeds, [row] * len(seeds), "|", color=colour, markersize=9)
        axes.set_title(measure.replace("_", " ").replace(".", ", "), fontsize=10)
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(variants)), variants, fontsize=8)
    panels[0].invert_yaxis()
    path.write_bytes(png(picture))
    return path
