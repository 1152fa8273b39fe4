"""Show the first rows of a Parquet file as a table on an asset's page in Dagster."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from adc_pipeline.core.columns import first_rows

ROWS, WIDTH = 8, 80


def preview(files: Sequence[str], columns: Sequence[str]) -> dg.TableMetadataValue:
    """Return the first rows of these columns of the first file as metadata; long texts are truncated."""
    rows = first_rows(files[0], ROWS, columns)
    records = [dg.TableRecord({name: _truncated(row[name]) for name in columns}) for row in rows]
    schema = dg.TableSchema([dg.TableColumn(name) for name in columns])
    return dg.MetadataValue.table(records, schema)


def _truncated(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= WIDTH:
        return value
    return value[: WIDTH - 1] + "…"
