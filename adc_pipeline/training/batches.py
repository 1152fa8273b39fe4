"""Batches: pieces of walks laid out in rows, with what each place predicts and what that counts.

Everything is indexing into the split's flat arrays, without a Python loop over pieces: 0.25 ms for 2,048
tokens.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adc_pipeline.training.attention import Spans
from adc_pipeline.training.dataset import ACCEPTED, BACKGROUND, REJECTED, TokenizedSplit, load_split
from adc_pipeline.training.objectives import WEIGHTS, TurnWeights
from adc_pipeline.training.packing import Pieces, RowOrder, Rows, cut_into_pieces
from adc_pipeline.training.settings import TrainingSettings

NOTHING = 3


@dataclass(frozen=True)
class Batch:
    """What one forward pass is given: arrays, or tensors, of (rows, row length).

    Place i predicts `targets[i]`, the next token of the same piece. `input_ids`, `position_ids` and
    `targets` are int64; `weights` float32, 0 where nothing is predicted or nothing is to be learned;
    `unlikely` bool, where the target is to become unlikely, or None where that is nowhere so;
    `parts` int64 says what the target belongs to: BACKGROUND, REJECTED, ACCEPTED, or NOTHING where
    nothing is predicted. `walks` are the pieces, and the padding, of a single row whose attention is to keep
    them apart; None where the positions have to.
    """

    input_ids: Any
    position_ids: Any
    targets: Any
    weights: Any
    parts: Any
    unlikely: Any = None
    walks: Spans | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same as tensors on a device."""
        tensors: dict[str, Any] = {
            field.name: _on(device, getattr(self, field.name))
            for field in fields(self)
            if field.name != "walks" and getattr(self, field.name) is not None
        }
        return replace(self, **tensors, walks=self.walks and self.walks.to(device))


def _on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # From ordinary memory a copy would wait until the GPU has done what it was given before.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def build_batch(
    split: TokenizedSplit,
    pieces: Pieces,
    rows: Rows,
    row: int,
    turn_weights: TurnWeights | None = None,
    apart: bool = False,
) -> Batch:
    """Lay pieces out in rows; without `turn_weights` every token counts 1.

    Positions restart at 0 in each piece, and in the padding at a row's end, which thereby is a sequence of
    its own, or several where it is longer than a piece may be. The first token of a piece is predicted by
    nothing and has no loss. With `apart`, which takes a single row, the batch says where pieces begin.
    """
    prefix = pieces.prefix_end[rows.piece] - pieces.prefix_start[rows.piece]
    body = pieces.body_end[rows.piece] - pieces.body_start[rows.piece]
    lengths = prefix + body
    total = int(lengths.sum())
    first = np.cumsum(lengths) - lengths
    within = np.arange(total) - np.repeat(first, lengths)
    in_body = within >= np.repeat(prefix, lengths)
    source = within + np.where(
        in_body,
        np.repeat(pieces.body_start[rows.piece] - prefix, lengths),
        np.repeat(pieces.prefix_start[rows.piece], lengths),
    )
    row_of_piece = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    row_first = np.concatenate([[0], np.cumsum(lengths)])[rows.start[:-1]]
    place = within + np.repeat(first - row_first[row_of_piece] + row_of_piece * row, lengths)

    ids = split.ids[source]
    if split.bos is not None:
        # Only where a background lost its beginning does this change anything, and there the model is
        # used to seeing the beginning of a text first.
        ids[first] = split.bos
    turn = split.turn[source]
    turn_first = np.repeat(split.turn_start[pieces.walk[rows.piece]], lengths)
    own_turn = turn_first + np.maximum(turn, 0)
    verdict = np.where(split.accepted[own_turn], ACCEPTED, REJECTED)

    shape = (len(rows), row)
    input_ids = np.zeros(shape, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    targets = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    parts = np.full(shape, NOTHING, dtype=np.int64)
    filled = np.bincount(row_of_piece, weights=lengths, minlength=len(rows)).astype(np.int64)
    columns = np.arange(row)
    padding = columns >= filled[:, None]
    np.subtract(columns, filled[:, None], out=position_ids, where=padding)
    np.remainder(position_ids, pieces.most, out=position_ids, where=padding)
    input_ids.ravel()[place] = ids
    position_ids.ravel()[place] = within
    predicted = np.flatnonzero(within > 0)
    targets.ravel()[place[predicted] - 1] = ids[predicted]
    learned = predicted[in_body[predicted]]
    target = place[learned] - 1
    parts.ravel()[target] = np.where(turn[learned] < 0, BACKGROUND, verdict[learned])
    unlikely = None
    if turn_weights is None:
        weights.ravel()[target] = 1
    else:
        control = np.zeros(len(learned), dtype=np.bool_)
        for one in split.control_ids:
            control |= ids[learned] == one
        found, found_unlikely = turn_weights.of_tokens(own_turn[learned], turn[learned] < 0, control)
        weights.ravel()[target] = found
        if found_unlikely is not None:
            unlikely = np.zeros(shape, dtype=np.bool_)
            unlikely.ravel()[target] = found_unlikely
    walks = None
    if apart:
        whole, rest = divmod(row - total, pieces.most)
        walks = Spans.of([*lengths.tolist(), *[pieces.most] * whole, *[rest] * (rest > 0)], pieces.most)
    return Batch(input_ids, position_ids, targets, weights, parts, unlikely, walks)


class PackedSplit:
    """A tokenized split in the order and the layout in which a run sees it.

    With `apart`, attention keeps the pieces of a row apart by their lengths: rows are as long as a
    forward pass is allowed to be, and one is a pass. None is padded, unless `fixed_shape` asks for it, as GPUs do,
    which plan for a shape once. Otherwise rows have `sequence_length` tokens, of which the last few may be
    padding.
    """

    def __init__(
        self, folder: Path, settings: TrainingSettings, processes: int, apart: bool, fixed_shape: bool = False
    ) -> None:
        self.split = load_split(folder)
        self.apart = apart
        self.padded = fixed_shape or not apart
        self.row = settings.sequence_length
        if apart:
            self.row = max(self.row, min(settings.tokens_per_forward, settings.tokens_per_step // processes))
        self.rows_per_pass = 1 if apart else max(1, settings.tokens_per_forward // self.row)
        self.pieces = cut_into_pieces(self.split, settings.sequence_length)
        self.order = RowOrder(self.pieces, self.row, settings.seed)
        self.turn_weights = WEIGHTS[settings.objective](self.split, settings)

    def passes(self, rows: Rows) -> list[Batch]:
        """The forward passes over some rows."""
        passes = []
        for begin in range(0, len(rows), self.rows_per_pass):
            part = rows.take(np.arange(begin, min(begin + self.rows_per_pass, len(rows))))
            row = self.row if self.padded else self.tokens(part)
            passes.append(build_batch(self.split, self.pieces, part, row, self.turn_weights, self.apart))
        return passes

    def tokens(self, rows: Rows) -> int:
        return int(self.order.lengths[rows.piece].sum())

    def conversations(self, rows: Rows) -> list[str]:
        """The conversations that some rows come from, for a person to look up."""
        walks = self.pieces.walk[rows.piece]
        return sorted({self.split.conversation_ids[walk] for walk in walks.tolist()})

    @property
    def fill(self) -> float:
        """The share of the places in a forward pass that are not padding."""
        return self.order.fill if self.padded else 1.0

    @property
    def attended(self) -> float:
        """The mean over tokens of the length of the piece that they stand in."""
        lengths = self.order.lengths.astype(np.float64)
        return float((lengths**2).sum() / lengths.sum())

    def facts(self) -> dict[str, float]:
        return {
            "walks": self.split.walks,
            "tokens": len(self.split.ids),
            **self.split.counts,
            **self.pieces.counts,
            "rows": self.order.rows_per_epoch,
            "row_length": self.row,
            "sequence_length": self.pieces.most,
            "fill": round(self.fill, 4),
        }
