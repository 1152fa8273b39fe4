"""Show the first rows of a Parquet file as a table on an asset's page in Dagster."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from adc_pipeline.core.columns import first_rows
from adc_pipeline.core.markdown import table

ROWS, WIDTH = 8, 80


def preview(files: Sequence[str], columns: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Return the first rows of these columns of the first file as metadata; long texts are truncated.

    It is Markdown, which the page puts behind a click: a table of Dagster's own would be wider than the page.
    """
    rows = first_rows(files[0], ROWS, columns)
    return dg.MetadataValue.md(table(columns, ([_truncated(row[name]) for name in columns] for row in rows)))


def _truncated(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= WIDTH:
        return value
    return value[: WIDTH - 1] + "…"
