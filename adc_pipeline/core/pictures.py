"""What all pictures have in common: colours, shapes, and one way to render them.

The colours are those of Okabe and Ito 2008 (*Color Universal Design*), readable in print and by colour-blind people,
without the yellow, which is invisible on paper. Each series also has its own shape. Rendering is the expensive part of
a picture: render it once, and give the same bytes to the file, MLflow and Dagster.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")

# The colour of a picture with a single series.
SINGLE = COLOURS[1]


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG, at its own resolution; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # matplotlib would write its own version into the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
