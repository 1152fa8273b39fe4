"""A figure becomes the same bytes each time."""

import io

from matplotlib.figure import Figure
from PIL import Image

from adc_pipeline.core.pictures import png


def test_equal_figures_are_equal_bytes_at_the_figures_resolution() -> None:
    def drawn() -> bytes:
        figure = Figure(figsize=(2, 1), dpi=70)
        figure.subplots().plot([0, 1])
        return png(figure)

    assert drawn() == drawn()
    with Image.open(io.BytesIO(drawn())) as image:
        assert (image.format, image.size) == ("PNG", (140, 70))
        assert "Software" not in image.info
