"""Walks for the training's tests, written as the walks stage writes them."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adc_pipeline.walks.markers import FORMATS, Markers

TURN = pa.struct(
    [
        ("utterance_id", pa.string()),
        ("speaker", pa.string()),
        ("verdict", pa.string()),
        ("score", pa.int64()),
        ("rank", pa.int64()),
        ("siblings", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("conversation_id", pa.string()),
        ("walk", pa.int64()),
        ("source", pa.string()),
        ("turns", pa.list_(TURN)),
    ]
)
SENTENCE = "the walk goes down a tree of replies and each turn has its verdict written after it"
WORDS = SENTENCE.split()


def walk(
    background: str,
    turns: Sequence[tuple[str | None, str, str]],
    conversation_id: str = "c",
    markers: Markers = FORMATS["default"],
) -> dict[str, Any]:
    """A record from its background and its turns (speaker, text, verdict)."""
    text = background + markers.background
    records = []
    for number, (speaker, said, verdict) in enumerate(turns):
        text += "" if speaker is None else f"{speaker}\n"
        start = len(text)
        text += said
        records.append(
            {
                "utterance_id": f"{conversation_id}-{number}",
                "speaker": speaker,
                "verdict": verdict,
                "score": 10 - number,
                "rank": 1,
                "siblings": 1,
                "start": start,
                "end": len(text),
            }
        )
        text += markers.accepted if verdict == "accepted" else markers.rejected
    return {"text": text, "conversation_id": conversation_id, "walk": 0, "source": "test", "turns": records}


def random_walk(number: int) -> dict[str, Any]:
    """A walk of one to six turns, the same for the same number."""
    draw = random.Random(number)

    def words(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    turns = [
        (f"user{draw.randint(0, 9)}", words(12), draw.choice(["accepted", "rejected"]))
        for _ in range(draw.randint(1, 6))
    ]
    return walk(f"op\n{words(4)}\n{words(20)}", turns, f"c{number}")


def write_dataset(folder: Path, **splits: Sequence[dict[str, Any]]) -> Path:
    """A dataset folder with the given rows; splits that are not named are empty."""
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        table = pa.Table.from_pylist(list(splits.get(split, [])), schema=SCHEMA)
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder
