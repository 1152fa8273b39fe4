"""The data of a run: which rows a step learns from, and the forward passes that they are divided into.

The order of the rows depends on the settings, the row length and the number of rows in a step (`Layout`). The division
of rows into passes does not change what a step learns. A run that resumes with smaller passes, or keeps its walks apart
in another way, therefore keeps the layout of its checkpoint and only divides the rows further.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adc_pipeline.training.architectures.attention import Separation
from adc_pipeline.training.rows.batches import NOTHING, Batch, TurnWeights, build_batch
from adc_pipeline.training.rows.packing import Pieces, RowOrder, Rows, divide
from adc_pipeline.training.settings import PREFERENCES, TrainingSettings
from adc_pipeline.training.texts.dataset import TokenizedSplit


class PackedSplit:
    """A tokenized split in the order and the layout in which a run sees it.

    With the separation `kernel`, a row is as long as a forward pass may be, and is one pass. It is padded only with
    `fixed_shape`, for GPUs, which plan for a shape once. With `positions`, rows have `sequence_length` tokens, the last
    few of which may be padding. With `passes`, rows are the same, and each piece is a pass of its own.

    `row` is the row length of a run that is resumed. Without `turn_weights` every token counts 1.
    """

    def __init__(
        self,
        split: TokenizedSplit,
        pieces: Pieces,
        settings: TrainingSettings,
        processes: int,
        separation: Separation,
        fixed_shape: bool = False,
        row: int | None = None,
        turn_weights: TurnWeights | None = None,
    ) -> None:
        self.split, self.pieces, self.separation = split, pieces, separation
        self.turn_weights = turn_weights
        self.per_token = turn_weights is not None and turn_weights.per_token
        self.padded = separation == "positions" or (separation == "kernel" and fixed_shape)
        self.row = row or row_length(settings, processes, separation)
        # The longest row of a pass; 0 gives each piece a row of its own.
        at_most = {"kernel": max(settings.sequence_length, settings.tokens_per_forward), "passes": 0}
        self.pass_row = min(self.row, at_most.get(separation, settings.sequence_length))
        self.rows_per_pass = max(1, settings.tokens_per_forward // self.pass_row) if separation == "positions" else 1
        # The two completions of a unit of `dpo` or `kto` are learned from in the same step.
        self.order = RowOrder(self.pieces, self.row, settings.seed, unit_size(settings))

    def passes(self, rows: Rows) -> list[Batch]:
        """Build the forward passes over some rows."""
        rows = self.divided(rows)
        passes = []
        for begin in range(0, len(rows), self.rows_per_pass):
            part = rows.take(np.arange(begin, min(begin + self.rows_per_pass, len(rows))))
            row = self.pass_row if self.padded else self.tokens(part)
            apart = self.separation == "kernel"
            batch = build_batch(self.split, self.pieces, part, row, self.turn_weights, apart)
            # A piece alone has the positions that the model gives it. Some models take none.
            passes.append(replace(batch, position_ids=None) if self.separation == "passes" else batch)
        return passes

    def passes_of(self, shares: Sequence[Rows], process: int) -> list[Batch]:
        """Build the passes of a process over its rows, as many as those of each process; `shares` has the rows of all.

        With FSDP, processes gather the weights together, for each pass. Rows that are divided further may give one
        process more passes than another, which then repeats its last pass without a weight.
        """
        passes = self.passes(shares[process])
        if self.pass_row == self.row:
            return passes
        most = max(math.ceil(len(self.divided(rows)) / self.rows_per_pass) for rows in shares)
        return passes + [passes[-1].without_weight()] * (most - len(passes))

    def divided(self, rows: Rows) -> Rows:
        return divide(rows, self.order.lengths, self.pass_row) if self.pass_row < self.row else rows

    def tokens(self, rows: Rows) -> int:
        return int(self.order.lengths[rows.piece].sum())

    def conversations(self, rows: Rows) -> list[str]:
        """Return the conversations of some rows, for a person to look up."""
        walks = self.pieces.walk[rows.piece]
        return sorted({self.split.conversation_ids[walk] for walk in walks.tolist()})

    @property
    def fill(self) -> float:
        """The share of the places in a forward pass that are not padding."""
        return self.order.fill if self.padded else 1.0

    @property
    def attended(self) -> float:
        """The mean, over tokens, of the length of the piece that contains the token."""
        lengths = self.order.lengths.astype(np.float64)
        return float((lengths**2).sum() / lengths.sum())

    def facts(self) -> dict[str, float]:
        return {
            "walks": self.split.walks,
            "tokens": len(self.split.ids),
            "turns": len(self.split.accepted),
            "turns_rejected": int((~self.split.accepted).sum()),
            **self.split.counts,
            **self.pieces.counts,
            **({"characters_unreadable": lost["share"]} if "share" in (lost := self.split.unreadable) else {}),
            **({"texts_changed": lost["changed"]} if "changed" in lost else {}),
            "rows": self.order.rows_per_epoch,
            "row_length": self.row,
            "sequence_length": self.pieces.most,
            "fill": round(self.fill, 4),
        }


def row_length(settings: TrainingSettings, processes: int, separation: Separation) -> int:
    """Return the length of a row in tokens."""
    least = unit_size(settings) * settings.sequence_length
    if separation != "kernel":
        return least
    return max(least, min(settings.tokens_per_forward, settings.tokens_per_step // processes))


def unit_size(settings: TrainingSettings) -> int:
    """Return how many pieces belong together."""
    return 2 if settings.objective in PREFERENCES else 1


@dataclass(frozen=True)
class Layout:
    """What decides which rows a step of a run learns from, beside the data and the settings; kept in checkpoints."""

    row: int
    rows_per_step: int
    processes: int


class TrainingData:
    """The training split and the validation split of a run, and its steps.

    `turn_weights` are those of the objective, and `resumed` is the layout of the checkpoint that the run goes on from.
    """

    def __init__(
        self,
        splits: tuple[TokenizedSplit, TokenizedSplit],
        pieces: tuple[Pieces, Pieces],
        turn_weights: TurnWeights | None,
        settings: TrainingSettings,
        processes: int,
        separation: Separation,
        fixed_shape: bool,
        resumed: Layout | None = None,
    ) -> None:
        # Each process has random states of its own.
        kept = resumed if resumed and resumed.processes == processes else None
        row = kept.row if kept else None
        self.train = PackedSplit(splits[0], pieces[0], settings, processes, separation, fixed_shape, row, turn_weights)
        # The likelihood of every token, whatever the objective, so that the validation losses of runs can be compared.
        self.held_out = PackedSplit(splits[1], pieces[1], settings, processes, separation, fixed_shape, row)
        rows_per_step = max(1, round(settings.tokens_per_step / self.train.row / processes)) * processes
        self.layout = kept or Layout(self.train.row, rows_per_step, processes)
        rows = settings.epochs * self.train.order.rows_per_epoch
        self.steps = settings.max_steps or math.ceil(rows / self.layout.rows_per_step)
        self.validation_rows = math.ceil(settings.validation_tokens / self.held_out.row)

    def rows(self, step: int) -> Rows:
        """Return the rows of step 1 ... `steps`, over all processes."""
        return self.train.order.rows((step - 1) * self.layout.rows_per_step, step * self.layout.rows_per_step)

    def passes(self, rows: Rows, process: int) -> list[Batch]:
        """Build the forward passes of one process over the rows of a step."""
        processes = self.layout.processes
        shares = [rows.take(np.arange(each, self.layout.rows_per_step, processes)) for each in range(processes)]
        return self.train.passes_of(shares, process)

    def validation_passes(self, process: int) -> list[Batch]:
        """Build one process's forward passes over the first `validation_tokens` of the validation split."""
        rows = self.held_out.order.rows(0, min(self.validation_rows, self.held_out.order.rows_per_epoch))
        processes = self.layout.processes
        # Every process has equally many rows. Processes that would have none left take a row again, which does not
        # count.
        owned = np.arange(math.ceil(len(rows) / processes) * processes).reshape(-1, processes).T
        shares = [rows.take(own % len(rows)) for own in owned]
        passes = self.held_out.passes_of(shares, process)
        if owned[process, -1] >= len(rows):
            # A row may be divided into several, in several passes.
            repeated = rows.take(owned[process, -1:] % len(rows))
            again = sum(len(batch.parts) for batch in self.held_out.passes(repeated))
            for batch in reversed([batch for batch in passes if batch.counts]):
                batch.parts[max(0, len(batch.parts) - again) :] = NOTHING
                again = max(0, again - len(batch.parts))
        return passes
