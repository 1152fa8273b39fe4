"""Build batches: pieces of walks laid out in rows, with the target and the weight of each place.

Everything is indexing into the split's flat arrays, without a Python loop over pieces: 0.25 ms for 2,048 tokens.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from adc_pipeline.training.attention import Spans
from adc_pipeline.training.dataset import ACCEPTED, BACKGROUND, REJECTED, TokenizedSplit
from adc_pipeline.training.objectives import TurnWeights
from adc_pipeline.training.packing import Pieces, Rows

NOTHING = 3


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass: arrays, or tensors, of (rows, row).

    Place i predicts `targets[i]`, the next token of the same piece.
    """

    input_ids: Any  # int64 (rows, row)
    position_ids: Any  # int64 (rows, row), from 0 in each piece; None where the model numbers a single piece by itself
    targets: Any  # int64 (rows, row)
    weights: Any  # float32 (rows, row), 0 where nothing is predicted or nothing is to be learned
    parts: (
        Any  # int64 (rows, row): the target's part, BACKGROUND, REJECTED or ACCEPTED, or NOTHING if there is no target
    )
    unlikely: Any = None  # bool (rows, row): whether the target is to become unlikely; None if none is
    turns: Any = None  # int64 (rows, row): the target's turn among all of the split; None if no token is given
    walks: Spans | None = None  # the sequences of a single row that the attention kernel separates

    def to(self, device: torch.device) -> "Batch":
        """Return the batch as tensors on a device."""
        tensors: dict[str, Any] = {
            field.name: _on(device, getattr(self, field.name))
            for field in fields(self)
            if field.name != "walks" and getattr(self, field.name) is not None
        }
        return replace(self, **tensors, walks=self.walks and self.walks.to(device))


def _on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # A copy from pageable memory waits until the GPU has finished its work.
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
    """Lay pieces out in rows of `row` tokens; without `turn_weights` every token counts 1.

    Positions restart at 0 in each piece, and in the padding at a row's end, which is a sequence of its own, or several
    where it is longer than a piece may be. The first token of a piece has no loss, since nothing predicts it. With
    `apart`, which takes a single row, the batch tells the attention kernel where sequences begin.
    """
    # One entry a piece.
    prefix = pieces.prefix_end[rows.piece] - pieces.prefix_start[rows.piece]
    body = pieces.body_end[rows.piece] - pieces.body_start[rows.piece]
    lengths = prefix + body
    total = int(lengths.sum())
    first = np.cumsum(lengths) - lengths
    # One entry a token: its place in the piece, in the split (`source`) and in the flattened rows (`place`).
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
    for offset, one in enumerate(split.prefix_ids):
        # This only changes pieces whose background lost its start: the model expects every text to begin like this.
        ids[first + offset] = one
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
    padding = columns >= filled[:, None]  # (rows, row)
    np.subtract(columns, filled[:, None], out=position_ids, where=padding)
    np.remainder(position_ids, pieces.most, out=position_ids, where=padding)
    input_ids.ravel()[place] = ids
    position_ids.ravel()[place] = within
    predicted = np.flatnonzero(within > 0)
    targets.ravel()[place[predicted] - 1] = ids[predicted]
    learned = predicted[in_body[predicted]]
    if len(split.given):
        learned = learned[~split.given[source[learned]]]
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
        full, rest = divmod(row - total, pieces.most)
        walks = Spans.of([*lengths.tolist(), *[pieces.most] * full, *[rest] * (rest > 0)], pieces.most)
    turns = None
    if len(split.given):
        turns = np.zeros(shape, dtype=np.int64)
        turns.ravel()[target] = own_turn[learned]
    return Batch(input_ids, position_ids, targets, weights, parts, unlikely, turns, walks)
