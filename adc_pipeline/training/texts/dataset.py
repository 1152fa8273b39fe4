"""Tokenize a split of a dataset into flat arrays on disk.

Tokenizing up front keeps Python out of the training step, lets a rerun skip it, and lets the processes of one machine
share one copy: the arrays are memory-mapped. Walks stream through in batches, so memory does not grow with the dataset.
Each token takes four bytes for its id and four for its turn.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from adc_pipeline.core.atomic import atomic_folder
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.records import checked_fields, read_record
from adc_pipeline.core.store.content import damage, scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.completions import encode_completions
from adc_pipeline.training.texts.layout import BATCH, encode_walks, segments
from adc_pipeline.training.texts.reading_back import read_back
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.splits import split_of
from adc_pipeline.walks.text_only import detected_markers, walk_of_text

BACKGROUND, REJECTED, ACCEPTED = 0, 1, 2
# Bytes of the JSON file with the ids of all conversations.
LARGEST_IDS = 1 << 34
# The largest share of the characters that a tokenizer may not know.
MOST_UNREADABLE = 0.5
PARTS = ("background", "rejected", "accepted")

_COLUMNS = ["text", "conversation_id", "walk", "turns"]
_ARRAYS = {
    "ids": np.int32,
    "turn": np.int32,
    "walk_start": np.int64,
    "turn_start": np.int64,
    "accepted": np.bool_,
    "score": np.int64,
    "group": np.int32,
    "given": np.bool_,
}


@dataclass(frozen=True, eq=False)
class TokenizedSplit:
    """Walks one after another: walk w has the tokens walk_start[w]:walk_start[w+1], and its turns likewise.

    `prefix_ids` are the ids that every walk begins with, `control_ids` the ids that no text contains (see
    `MarkerTokenizer`), `counts` what the arrangement of the turns excluded. `unreadable` has the share of the
    characters that the tokenizer does not know, and the commonest of them, and likewise the share of the texts that it
    changes, and in what; it is empty if it reads back every text.
    """

    ids: np.ndarray  # int32 (tokens,)
    turn: np.ndarray  # int32 (tokens,), index within the walk, -1 for the background
    walk_start: np.ndarray  # int64 (walks + 1,)
    turn_start: np.ndarray  # int64 (walks + 1,)
    accepted: np.ndarray  # bool (turns,)
    score: np.ndarray  # int64 (turns,)
    group: np.ndarray  # int32 (turns,), number of the turn's group of siblings within the walk
    conversation_ids: list[str]  # one a walk
    given: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))  # bool (tokens,): no loss; or empty
    prefix_ids: list[int] = field(default_factory=list)
    control_ids: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, Any] = field(default_factory=dict)

    @property
    def walks(self) -> int:
        return len(self.walk_start) - 1


def read_walks(dataset: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split in file order, with the columns that training needs.

    Of a dataset with the only column `text`, as the public ones of 2023, walks are read by their markers, and a
    validation split that it does not have is cut from the training split by a hash of the background.
    """
    import pyarrow.parquet as pq

    files = sorted((dataset / "data").glob(f"{split}-*.parquet"))
    others = sorted((dataset / "data").glob("train-*.parquet"))
    text_only = bool(others) and "turns" not in pq.read_schema(others[0]).names
    if text_only and "text" in pq.read_schema(others[0]).names:
        cut = not list((dataset / "data").glob("validation-*.parquet"))
        yield from read_texts(files or others, split if cut else "")
        return
    if not files:
        raise PipelineError(f"{dataset} has no {split} split; name a folder that the walks stage wrote as `dataset`.")
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1024, columns=_COLUMNS):
                yield from batch.to_pylist()


def read_texts(files: Sequence[Path], split: str) -> Iterator[dict[str, Any]]:
    """Yield the walks of a column `text`; with `split`, those whose hash belongs to it.

    Raises PipelineError where most texts have no markers of a known format.
    """
    import pyarrow.parquet as pq

    number, found, markers = 0, 0, None
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    markers = markers or detected_markers(text or "")
                    walk = walk_of_text(text or "", markers, number) if markers else None
                    number += 1
                    found += walk is not None
                    if walk and split in ("", split_of(walk["conversation_id"])):
                        yield walk
    if found <= number / 2:
        raise PipelineError(
            f"{number - found} of the {number} texts in {files[0].parent.parent} are no walks with markers: name a"
            " dataset that the walks stage wrote, or one of its format, as `dataset`."
        )


def tokenize_split(
    tokenizer: MarkerTokenizer, dataset: Path, split: str, folder: Path, arranged: Arrangement | None = None
) -> None:
    """Tokenize a split of `dataset` into `folder` in one step, its turns laid out as `arranged`."""
    with atomic_folder(folder) as partial:
        files = {name: (partial / f"{name}.bin").open("wb") for name in _ARRAYS}
        np.zeros(1, dtype=np.int64).tofile(files["walk_start"])
        np.zeros(1, dtype=np.int64).tofile(files["turn_start"])
        tokens = turns = 0
        conversation_ids = []
        counts = {"turns_left_out": 0, "walks_left_out": 0, "markers_dropped": 0}
        rows = read_walks(dataset, split)
        first = list(islice(rows, BATCH))
        lost = check_readable(tokenizer, first)
        encode = encode_completions if arranged and arranged.completions else encode_walks
        walks = encode(tokenizer, chain(first, rows), arranged or Arrangement())
        while encoded := list(islice(walks, BATCH)):
            # A walk without turns has no verdict, and nothing to learn.
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
                "group": np.array([group for walk in batch for group in walk.groups]),
            }
            if batch[0].given is not None:
                arrays["given"] = np.concatenate([walk.given for walk in batch])
            for name, array in arrays.items():
                array.astype(_ARRAYS[name]).tofile(files[name])
            conversation_ids += [walk.conversation_id for walk in batch]
        for file in files.values():
            file.close()
        rest = {
            "conversation_ids": conversation_ids,
            "prefix_ids": tokenizer.prefix_ids,
            "control_ids": tokenizer.control_ids,
            "counts": counts,
            "unreadable": lost,
            "files": scan(partial),
        }
        (partial / "walks.json").write_text(json.dumps(rest, allow_nan=False))


def check_readable(tokenizer: MarkerTokenizer, walks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `TokenizedSplit.unreadable` holds, of some walks.

    Raises PipelineError if the tokenizer does not know most of the characters: the model would learn nothing of them.
    """
    found = read_back(tokenizer, [text for walk in walks for text in segments(walk, tokenizer.markers)])
    if found.missing_share > MOST_UNREADABLE:
        raise PipelineError(
            f"The base model's tokenizer does not know {found.missing_share:.0%} of the characters of the corpus, such"
            f" as {' '.join(found.commonest)}; choose a base model for the language of the corpus."
        )
    missing = {"share": round(found.missing_share, 6), "characters": found.commonest}
    changed = {"changed": round(found.changed_share, 6), "changes": found.changes}
    return (missing if found.missing else {}) | (changed if found.changed else {})


def load_split(folder: Path) -> TokenizedSplit:
    """Open what `tokenize_split` wrote, as memory maps; raise PipelineError if the files are damaged.

    A map of a file that was cut off, or that holds other numbers, would be trained on without an error.
    """
    remedy = f"remove {folder.parent}, and the next run tokenizes again"
    arrays: dict[str, Any] = {}
    try:
        for name, kind in _ARRAYS.items():
            path = folder / f"{name}.bin"
            # An empty file cannot be memory-mapped.
            arrays[name] = np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)
        # The ids of a million conversations are some 15 MiB.
        path = folder / "walks.json"
        rest = read_record(path, remedy=remedy, largest=LARGEST_IDS, conversation_ids=list, counts=dict)
        # An earlier version did not write what the files are.
        checked_fields({"unreadable": {}, "files": {}} | rest, {"unreadable": dict, "files": dict[str, dict[str, Any]]})
        if altered := damage(Artefact("tokens", folder, "", files=rest.pop("files", {}))):
            raise ValueError(f"{', '.join(altered[:3])} is missing or altered")
        return TokenizedSplit(**arrays, **rest)
    except (ValueError, TypeError, FileNotFoundError, IsADirectoryError) as error:
        raise PipelineError(
            f"The tokens in {folder} are damaged ({first_line(error)}): remove {folder.parent}, and the next run"
            " tokenizes again."
        ) from error
