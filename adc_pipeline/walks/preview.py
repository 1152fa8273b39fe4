"""Format walks as Markdown, one line per turn, with the verdict as a sign and a word, never as a colour alone."""

from pathlib import Path
from typing import Any

from adc_pipeline.core.columns import first_rows
from adc_pipeline.core.markdown import Markdown, code, escape, one_line

SIGNS = {"accepted": "✓ accepted", "rejected": "✗ rejected"}
WALKS, WIDTH = 10, 240
# Of a longer walk the first turns are shown, since Dagster keeps the text with every run.
TURNS = 30


def walks_as_markdown(parquet: Path) -> str:
    """Return the first walks of a split as Markdown."""
    rows = first_rows(str(parquet), WALKS)
    return "\n\n---\n\n".join(_walk(row) for row in rows) or "No walks in this split."


def _walk(row: dict[str, Any]) -> str:
    first = row["turns"][0]
    head = first["start"] - (len(first["speaker"]) + 1 if first["speaker"] is not None else 0)
    lines = [f"**{escape(row['source'])}** · conversation {code(row['conversation_id'])} · walk {row['walk']}"]
    lines.append(f"> **background** {shortened(row['text'][:head])}")
    for turn in row["turns"][:TURNS]:
        place = f"rank {turn['rank']} of {turn['siblings']}, score {turn['score']}"
        text = shortened(row["text"][turn["start"] : turn["end"]])
        lines.append(f"- **{SIGNS[turn['verdict']]}** ({place}) {text}")
    if len(row["turns"]) > TURNS:
        lines.append(f"- … and {len(row['turns']) - TURNS:,} more turns")
    return "\n".join(lines)


def shortened(text: str) -> Markdown:
    """Return a text on one line, cut to `WIDTH` characters and escaped."""
    line = one_line(text)
    return escape(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…")
