"""A split of a dataset as flat arrays of tokens, tokenized once and kept on disk.

Tokenizing up front keeps Python out of the training step, lets a rerun skip it, and lets the processes
of one machine share one copy: the arrays are memory maps. Walks stream through in batches, so memory
does not grow with the dataset. Four bytes a token for its id, four for its turn.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from adc_pipeline.core.atomic import written_aside
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.training.tokens import BATCH, MarkerTokenizer, encode_walks

BACKGROUND, REJECTED, ACCEPTED = 0, 1, 2
PARTS = ("background", "rejected", "accepted")

_COLUMNS = ["text", "conversation_id", "walk", "turns"]
_ARRAYS = {
    "ids": np.int32,
    "turn": np.int32,
    "walk_start": np.int64,
    "turn_start": np.int64,
    "accepted": np.bool_,
    "score": np.int64,
}


@dataclass(frozen=True, eq=False)
class TokenizedSplit:
    """Walks one after another. Walk w has tokens walk_start[w]:walk_start[w+1] and turns likewise.

    `ids` int32 and `turn` int32 (index within the walk, -1 for the background), one a token; `walk_start`
    and `turn_start` int64, one a walk and one more; `accepted` bool and `score` int64, one a turn;
    `conversation_ids`, one a walk; `bos`, the id that every walk begins with, or None; `control_ids`, ids
    that no text holds (see `MarkerTokenizer`); `counts`, what the arrangement of the turns left out.
    """

    ids: np.ndarray
    turn: np.ndarray
    walk_start: np.ndarray
    turn_start: np.ndarray
    accepted: np.ndarray
    score: np.ndarray
    conversation_ids: list[str]
    bos: int | None
    control_ids: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def walks(self) -> int:
        return len(self.walk_start) - 1


def read_walks(dataset: Path, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split in file order, without the columns that a training does not need."""
    import pyarrow.parquet as pq

    files = sorted((dataset / "data").glob(f"{split}-*.parquet"))
    if not files:
        raise PipelineError(f"{dataset} has no {split} split; name a folder that the walks stage wrote as `dataset`.")
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1024, columns=_COLUMNS):
                yield from batch.to_pylist()


def tokenize_split(
    tokenizer: MarkerTokenizer, dataset: Path, split: str, folder: Path, arranged: Arrangement | None = None
) -> None:
    """Tokenize a split of `dataset` into `folder`, whole or not at all, its turns as `arranged`."""
    with written_aside(folder) as partial:
        files = {name: (partial / f"{name}.bin").open("wb") for name in _ARRAYS}
        np.zeros(1, dtype=np.int64).tofile(files["walk_start"])
        np.zeros(1, dtype=np.int64).tofile(files["turn_start"])
        tokens = turns = 0
        conversation_ids = []
        counts = {"turns_left_out": 0, "walks_left_out": 0, "markers_dropped": 0}
        walks = encode_walks(tokenizer, read_walks(dataset, split), arranged)
        while encoded := list(islice(walks, BATCH)):
            # Without a turn there is no verdict, and nothing to learn.
            batch = [walk for walk in encoded if walk.verdicts]
            counts["walks_left_out"] += len(encoded) - len(batch)
            counts["turns_left_out"] += sum(walk.turns_left_out for walk in encoded)
            counts["markers_dropped"] += sum(walk.markers_dropped for walk in encoded)
            if not batch:
                continue
            walk_start = tokens + np.cumsum([len(walk.ids) for walk in batch])
            turn_start = turns + np.cumsum([len(walk.verdicts) for walk in batch])
            tokens, turns = int(walk_start[-1]), int(turn_start[-1])
            arrays = {
                "ids": np.concatenate([walk.ids for walk in batch]),
                "turn": np.concatenate([walk.turn for walk in batch]),
                "walk_start": walk_start,
                "turn_start": turn_start,
                "accepted": np.array([verdict == "accepted" for walk in batch for verdict in walk.verdicts]),
                "score": np.array([score for walk in batch for score in walk.scores]),
            }
            for name, array in arrays.items():
                array.astype(_ARRAYS[name]).tofile(files[name])
            conversation_ids += [walk.conversation_id for walk in batch]
        for file in files.values():
            file.close()
        rest = {
            "conversation_ids": conversation_ids,
            "bos": next(iter(tokenizer.bos_ids), None),
            "control_ids": tokenizer.control_ids,
            "counts": counts,
        }
        (partial / "walks.json").write_text(json.dumps(rest))


def load_split(folder: Path) -> TokenizedSplit:
    """What `tokenize_split` wrote, as memory maps."""
    arrays: dict[str, Any] = {}
    for name, kind in _ARRAYS.items():
        path = folder / f"{name}.bin"
        # An empty file cannot be mapped.
        arrays[name] = np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)
    return TokenizedSplit(**arrays, **json.loads((folder / "walks.json").read_text()))
