"""Plot the loss, learning rate and speed of a training over its steps."""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.pictures import SINGLE
from adc_pipeline.training.loop.progress import read_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {"loss": "loss (nats a token)", "learning_rate": "learning rate", "tokens_per_second": "tokens a second"}


def training_curves(metrics: Path) -> "Figure":
    """Plot a panel for each of `PANELS` from the lines of a `metrics.jsonl`."""
    from matplotlib.figure import Figure

    read = map(read_figures, metrics.read_text(errors="replace").splitlines(keepends=True))
    lines = [figures for figures in read if figures is not None]
    figure = Figure(figsize=(3.2 * len(PANELS), 2.4), layout="constrained", dpi=90)
    for panel, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        known = [line for line in lines if name in line]
        panel.plot([line["step"] for line in known], [line[name] for line in known], color=SINGLE)
        panel.set_xlabel("step")
        panel.set_title(label, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    return figure
