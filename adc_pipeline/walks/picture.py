"""Walks as a person would read them: one line a turn, the verdict as a sign and a word, never as a colour alone."""

from pathlib import Path

SIGNS = {"accepted": "✓ accepted", "rejected": "✗ rejected"}
WALKS, WIDTH = 10, 240


def walks_as_markdown(parquet: Path) -> str:
    """The first walks of a split as Markdown."""
    import pyarrow.parquet as pq

    batch = next(pq.ParquetFile(parquet).iter_batches(WALKS), None)
    rows = batch.to_pylist() if batch is not None else []
    return "\n\n---\n\n".join(_walk(row) for row in rows) or "No walks in this split."


def _walk(row: dict) -> str:
    first = row["turns"][0]
    head = first["start"] - (len(first["speaker"]) + 1 if first["speaker"] is not None else 0)
    lines = [f"**{row['source']}** · conversation `{row['conversation_id']}` · walk {row['walk']}"]
    lines.append(f"> {_line(row['text'][:head])}")
    for turn in row["turns"]:
        place = f"rank {turn['rank']} of {turn['siblings']}, score {turn['score']}"
        text = _line(row["text"][turn["start"] : turn["end"]])
        lines.append(f"- **{SIGNS[turn['verdict']]}** ({place}) {text}")
    return "\n".join(lines)


def _line(text: str) -> str:
    """A text on one line, cut, with the characters that Markdown would take for itself escaped."""
    line = " ".join(text.split())
    line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|~$" else character for character in line)
