"""Build batches: pieces of walks laid out in rows, with the target and the weight of each place.

Everything is indexing into the split's flat arrays, without a Python loop over pieces: 0.25 ms for 2,048 tokens.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from adc_pipeline.training.architectures.attention import Spans
from adc_pipeline.training.rows.packing import Pieces, Rows
from adc_pipeline.training.texts.dataset import ACCEPTED, BACKGROUND, REJECTED, TokenizedSplit

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
    parts: Any  # int64 (rows, row): the target's part, BACKGROUND, REJECTED or ACCEPTED; NOTHING without a target
    unlikely: Any = None  # bool (rows, row): whether the target is to become unlikely; None if none is
    turns: Any = None  # int64 (rows, row): the target's turn among all of the split; None if no token is given
    walks: Spans | None = None  # the sequences of a single row that the attention kernel separates
    counts: bool = True  # False for a pass that only keeps processes together

    def without_weight(self) -> "Batch":
        """Return the batch as one of which nothing is learned or counted."""
        nothing = np.full_like(self.parts, NOTHING)
        return replace(self, weights=np.zeros_like(self.weights), parts=nothing, counts=False)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch as tensors on a device."""
        tensors: dict[str, Any] = {
            field.name: _on(device, getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("walks", "counts") and getattr(self, field.name) is not None
        }
        return replace(self, **tensors, walks=self.walks and self.walks.to(device))


def _on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # A copy from pageable memory waits until the GPU has finished its work.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class TurnWeights:
    """The weights of the tokens of each turn of a split.

    `unlikely` marks turns whose text is to become unlikely. None, if there are none, saves the batch a mask and the
    loss a copy of the logits. `per_token` divides the loss of a step by the number of its predicted tokens instead of
    the sum of their weights.
    """

    text: np.ndarray  # float32 (turns,)
    controls: np.ndarray  # float32 (turns,)
    unlikely: np.ndarray | None = None  # bool (turns,)
    per_token: bool = False

    def of_tokens(
        self, turn: np.ndarray, background: np.ndarray, control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the weights (float32) of some tokens and which are to become unlikely (bool, or None), all (tokens,).

        `turn` is the index of each token's turn among all turns of the split, and arbitrary for `background` tokens;
        `control` tells which tokens are controls.
        """
        weights = np.where(control, self.controls[turn], self.text[turn])
        weights[background] = 1
        if self.unlikely is None:
            return weights, None
        return weights, self.unlikely[turn] & ~control & ~background


class Places(NamedTuple):
    """Where the tokens of some rows come from and go to; one entry a token, or a piece, or a row."""

    within: np.ndarray  # int64 (tokens,): the token's number in its piece
    in_body: np.ndarray  # bool (tokens,): whether it is of the piece's body, not of its repeated context
    source: np.ndarray  # int64 (tokens,): its place in the split
    place: np.ndarray  # int64 (tokens,): its place in the flattened rows
    first: np.ndarray  # int64 (pieces,): the number of the piece's first token
    lengths: np.ndarray  # int64 (pieces,)
    filled: np.ndarray  # int64 (rows,): tokens in the row


def places_of(pieces: Pieces, rows: Rows, row: int) -> Places:
    """Return the places of the tokens of pieces that stand side by side in rows of `row` tokens."""
    prefix = pieces.prefix_end[rows.piece] - pieces.prefix_start[rows.piece]
    body = pieces.body_end[rows.piece] - pieces.body_start[rows.piece]
    lengths = prefix + body
    first = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    in_body = within >= np.repeat(prefix, lengths)
    source = within + np.where(
        in_body,
        np.repeat(pieces.body_start[rows.piece] - prefix, lengths),
        np.repeat(pieces.prefix_start[rows.piece], lengths),
    )
    row_of_piece = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    row_first = np.concatenate([[0], np.cumsum(lengths)])[rows.start[:-1]]
    place = within + np.repeat(first - row_first[row_of_piece] + row_of_piece * row, lengths)
    filled = np.bincount(row_of_piece, weights=lengths, minlength=len(rows)).astype(np.int64)
    return Places(within, in_body, source, place, first, lengths, filled)


def positions_in(at: Places, row: int, most: int) -> np.ndarray:
    """Return positions, int64 (rows, row), that restart at 0 in each piece and in the padding at a row's end.

    The padding is a sequence of its own, or several where it is longer than a piece may be.
    """
    positions = np.zeros((len(at.filled), row), dtype=np.int64)
    columns = np.arange(row)
    padding = columns >= at.filled[:, None]  # (rows, row)
    np.subtract(columns, at.filled[:, None], out=positions, where=padding)
    np.remainder(positions, most, out=positions, where=padding)
    positions.ravel()[at.place] = at.within
    return positions


def spans_in(at: Places, row: int, most: int) -> Spans:
    """Return the sequences of a single row, its padding included."""
    full, rest = divmod(row - len(at.within), most)
    return Spans.of([*at.lengths.tolist(), *[most] * full, *[rest] * (rest > 0)], most)


def build_batch(
    split: TokenizedSplit,
    pieces: Pieces,
    rows: Rows,
    row: int,
    turn_weights: TurnWeights | None = None,
    apart: bool = False,
) -> Batch:
    """Lay pieces out in rows of `row` tokens; without `turn_weights` every token counts 1.

    The first token of a piece has no loss, since nothing predicts it. With `apart`, which takes a single row, the batch
    tells the attention kernel where sequences begin.
    """
    at = places_of(pieces, rows, row)
    ids = split.ids[at.source]
    for offset, one in enumerate(split.prefix_ids):
        # This only changes pieces whose background lost its start: the model expects every text to begin like this.
        ids[at.first + offset] = one
    turn = split.turn[at.source]
    turn_first = np.repeat(split.turn_start[pieces.walk[rows.piece]], at.lengths)
    own_turn = turn_first + np.maximum(turn, 0)
    verdict = np.where(split.accepted[own_turn], ACCEPTED, REJECTED)

    shape = (len(rows), row)
    input_ids = np.zeros(shape, dtype=np.int64)
    targets = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    parts = np.full(shape, NOTHING, dtype=np.int64)
    input_ids.ravel()[at.place] = ids
    predicted = np.flatnonzero(at.within > 0)
    targets.ravel()[at.place[predicted] - 1] = ids[predicted]
    learned = predicted[at.in_body[predicted]]
    if len(split.given):
        learned = learned[~split.given[at.source[learned]]]
    target = at.place[learned] - 1
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
    turns = None
    if len(split.given):
        turns = np.zeros(shape, dtype=np.int64)
        turns.ravel()[target] = own_turn[learned]
    walks = spans_in(at, row, pieces.most) if apart else None
    return Batch(input_ids, positions_in(at, row, pieces.most), targets, weights, parts, unlikely, turns, walks)
