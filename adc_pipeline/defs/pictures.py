"""Pictures on Dagster's pages, embedded in Markdown metadata."""

import base64
import io

import dagster as dg

# Pixels that a dialog of Dagster's pages has room for; it cuts off what is wider.
WIDEST = 1000


def picture(png: bytes, name: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as metadata that Dagster shows in place, scaled down to the width of its dialog."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((WIDEST, image.height))
        image.save(small, "png", optimize=True)
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(small.getvalue()).decode()})")
