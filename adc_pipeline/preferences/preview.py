"""Format pairs as Markdown: what is answered, then the chosen and the rejected reply with their scores."""

from pathlib import Path
from typing import Any

from adc_pipeline.core.columns import first_rows
from adc_pipeline.core.markdown import code, escape
from adc_pipeline.walks.preview import shortened

PAIRS = 10


def pairs_as_markdown(parquet: Path) -> str:
    """Return the first pairs of a split as Markdown."""
    rows = first_rows(str(parquet), PAIRS)
    return "\n\n---\n\n".join(_pair(row) for row in rows) or "No pairs in this split."


def _pair(row: dict[str, Any]) -> str:
    def last(value: Any) -> str:
        return str(value if isinstance(value, str) else value[-1]["content"])

    turns = "" if isinstance(row["prompt"], str) else f" · {len(row['prompt'])} turns"
    return "\n".join(
        [
            f"**{escape(row['source'])}** · conversation {code(row['conversation_id'])}{turns}",
            f"> {shortened(last(row['prompt']))}",
            f"- **✓ chosen** (rank {row['rank_chosen']}, score {row['score_chosen']}) {shortened(last(row['chosen']))}",
            f"- **✗ rejected** (rank {row['rank_rejected']}, score {row['score_rejected']})"
            f" {shortened(last(row['rejected']))}",
        ]
    )
