"""Render a matplotlib figure to PNG, once.

Rendering is the expensive part of a picture. Render it here and give the same bytes to the file, MLflow and Dagster.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG, at its own resolution; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # matplotlib would write its own version into the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
