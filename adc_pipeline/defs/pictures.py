"""Pictures on Dagster's pages, embedded in Markdown metadata.

Dagster stores each twice, in the history of the run and of the asset. A chart has few colours: reduced to these and to
the width of Dagster's dialog, and compressed as WebP without loss, 19 pictures take some 200 kB instead of the 960 kB
of PNG at full colour, for 60 ms each.
"""

import base64
import io

import dagster as dg

# Pixels that a dialog of Dagster's pages has room for; it cuts off what is wider.
WIDEST = 1000
COLOURS = 32


def picture(png: bytes, name: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as metadata that Dagster shows in place, scaled down to the width of its dialog."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
        image.thumbnail((WIDEST, image.height))
        few = image.quantize(COLOURS, dither=Image.Dither.NONE)
        few.convert("RGB").save(small, "webp", lossless=True)
    return dg.MetadataValue.md(f"![{name}](data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()})")
