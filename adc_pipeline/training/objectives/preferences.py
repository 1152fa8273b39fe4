"""Preference optimization: losses of how much likelier completions became than they were to the reference model.

With r = log p(completion) - log p_reference(completion), summed over the completion's tokens, and `beta` for the
setting `preference_beta`:

    dpo:  -log sigmoid(beta * (r(accepted) - r(rejected)))
    kto:  1 - sigmoid(beta * (r - kl)) of an accepted turn,  1 - sigmoid(beta * (kl - r)) of a rejected one,
          kl = max(0, the mean of r over completions of other contexts), which has no gradient

Rafailov et al. 2023, Direct Preference Optimization (https://arxiv.org/abs/2305.18290), and Ethayarajh et al. 2024, KTO
(https://arxiv.org/abs/2402.01306), both as a mean over the units of a step (see `completions`), the latter with weight
1 for either verdict.

The reference is the model that the training starts from. Its log-probabilities are computed once, before the first
step, and stored beside the tokens; the model itself is not kept. A step first computes the log-probabilities of its
completions without gradients. From them follow the loss and its slope at each completion, and a second pass learns the
tokens with these slopes as weights. The gradient is that of the formula, however a step is divided into passes and
processes, and with every way to keep texts apart; the price is a third more time than one pass would take.

This is a module of its own rather than trl's trainers: those need datasets and transformers' Trainer, which a bare GPU
machine lacks, neither pack nor resume to the bit, and would bring checkpoints, figures and tokenization of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.training.rows.batches import NOTHING, Batch
from adc_pipeline.training.rows.data import PackedSplit, TrainingData
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.training.texts.dataset import TokenizedSplit

if TYPE_CHECKING:
    from accelerate import Accelerator

# Return the losses of the tokens of a batch, (rows, row), without gradients.
Evaluate = Callable[[Batch], torch.Tensor]


def dpo(ratio: torch.Tensor, accepted: torch.Tensor, beta: float, kl: float) -> torch.Tensor:
    """Return the loss of pairs; `ratio` is (pairs, 2), that of the accepted completion first."""
    return -torch.nn.functional.logsigmoid(beta * (ratio[:, 0] - ratio[:, 1]))


def kto(ratio: torch.Tensor, accepted: torch.Tensor, beta: float, kl: float) -> torch.Tensor:
    """Return the loss of completions; `ratio` is (completions, 2), their own first, and `accepted` (completions,)."""
    gain = ratio[:, 0] - kl
    return 1 - torch.sigmoid(beta * torch.where(accepted, gain, -gain))


LOSSES = {"dpo": dpo, "kto": kto}


@dataclass(frozen=True)
class Units:
    """The different units of some batches: turns of the completions, log-ratios, and whether the first is accepted.

    A step at the end of an epoch, or one that is larger than an epoch, has units several `times`.
    """

    turns: torch.Tensor  # int64 (2 * units,), rising
    ratio: torch.Tensor  # float64 (units, 2)
    accepted: torch.Tensor  # bool (units,)
    times: torch.Tensor  # float64 (units,)


class Reference:
    """The reference's log-probability of each completion of a split, by turn; NaN for those that no step learns from.

    A completion is one turn, so that its number among all turns of the split names it.
    """

    def __init__(self, split: PackedSplit, values: np.ndarray) -> None:
        self.accepted = torch.from_numpy(np.array(split.split.accepted))
        self.values = torch.from_numpy(values)
        self.sizes = completion_sizes(split.split)

    def units(self, passes: Sequence[Batch], losses: Sequence[torch.Tensor]) -> Units:
        """Return the units of passes, of whose tokens these are the losses."""
        turns, sums, times = summed(passes, losses, self.sizes)
        ratio = (-sums - self.values[turns]).view(-1, 2)
        return Units(turns, ratio, self.accepted[turns[::2]], times[::2])


def completion_sizes(split: TokenizedSplit) -> torch.Tensor:
    """Return the number of tokens of each completion, by its turn; float64 (turns,), 0 for turns of contexts."""
    sizes = torch.zeros(len(split.accepted), dtype=torch.float64)
    own = np.concatenate([[0], np.cumsum(~np.asarray(split.given), dtype=np.int64)])[split.walk_start]
    sizes[torch.from_numpy(split.turn_start[1:] - 1)] = torch.from_numpy(np.diff(own)).double()
    return sizes


def summed(
    passes: Sequence[Batch], losses: Sequence[torch.Tensor], sizes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the turns of completions (int64, rising), the sums of their tokens' losses, and how often each occurs
    (float64), on the CPU.
    """
    known = [torch.as_tensor(batch.parts).cpu() != NOTHING for batch in passes]
    of = torch.cat([torch.as_tensor(batch.turns).cpu()[mask] for batch, mask in zip(passes, known, strict=True)])
    each = torch.cat([loss.double().cpu()[mask] for loss, mask in zip(losses, known, strict=True)])
    turns, place = of.unique(return_inverse=True)
    totals = torch.zeros(len(turns), 2, dtype=torch.float64)
    totals.index_add_(0, place, torch.stack([each, torch.ones_like(each)], dim=1))
    times = totals[:, 1] / sizes[turns]
    return turns, totals[:, 0] / times, times


class Preference:
    """The loss of a step of `dpo` or `kto`, and the weights by which its tokens are learned."""

    def __init__(
        self, settings: TrainingSettings, data: TrainingData, work: Path, evaluate: Evaluate, accelerator: "Accelerator"
    ) -> None:
        """Compute the reference's log-probabilities with `evaluate`, or read what an earlier run stored in `work`."""
        self.loss, self.beta = LOSSES[settings.objective], settings.preference_beta
        self.evaluate, self.accelerator = evaluate, accelerator
        process = accelerator.process_index
        epoch = -(-data.train.order.rows_per_epoch // data.layout.rows_per_step)
        steps = range(1, min(data.steps, epoch) + 1)
        train = (batch for step in steps for batch in data.passes(data.rows(step), process))
        held_out = data.validation_passes(process) if data.held_out.split.walks else []
        # By what it covers: a run that goes on with other passes or more validation needs that of other texts.
        covered = f"train-{data.train.row}-{data.layout.rows_per_step}.npy"
        validated = f"validation-{data.held_out.row}-{data.validation_rows}.npy"
        self.train = Reference(data.train, self.reference(data.train, train, work / covered))
        self.held_out = Reference(data.held_out, self.reference(data.held_out, held_out, work / validated))

    def reference(self, split: PackedSplit, passes: Iterable[Batch], path: Path) -> np.ndarray:
        if not path.exists():
            values = torch.zeros(len(split.split.accepted), 2, dtype=torch.float64)
            sizes = completion_sizes(split.split)
            for batch in passes:
                turns, sums, _ = summed([batch], [self.losses(batch)], sizes)
                values[turns] = torch.stack([-sums, torch.ones_like(sums)], dim=1)
            values = self.accelerator.reduce(values.to(self.accelerator.device), "sum").cpu()
            if self.accelerator.is_main_process:
                path.parent.mkdir(exist_ok=True)
                with atomic_file(path) as partial, partial.open("wb") as file:
                    np.save(file, (values[:, 0] / values[:, 1]).numpy())
            self.accelerator.wait_for_everyone()
        stored: np.ndarray = np.load(path)
        return stored

    def losses(self, batch: Batch) -> torch.Tensor:
        return self.evaluate(batch.to(self.accelerator.device))

    def weigh(self, passes: Sequence[Batch]) -> tuple[list[Batch], torch.Tensor]:
        """Return a step's passes with the weights of their tokens, and this process's share of the step's loss."""
        units = self.train.units(passes, [self.losses(batch) for batch in passes])
        share, count = self.share(units)
        slopes = torch.zeros(len(self.train.values), dtype=torch.float32)
        with torch.enable_grad():
            ratio = units.ratio.clone().requires_grad_()
            losses = self.loss(ratio, units.accepted, self.beta, share) / count
            (slope,) = torch.autograd.grad(losses.sum(), ratio)
        loss = (losses * units.times).sum()
        # The tokens' losses are negative log-probabilities.
        slopes[units.turns] = -slope.flatten().float()
        weighed = [
            replace(batch, weights=np.where(batch.parts == NOTHING, 0, slopes.numpy()[batch.turns]).astype(np.float32))
            for batch in passes
        ]
        return weighed, loss.detach().float().to(self.accelerator.device)

    def share(self, units: Units) -> tuple[float, float]:
        """Return the divergence of a step from the reference, and its number of units, over all processes."""
        own = torch.stack([(units.ratio[:, 1] * units.times).sum(), units.times.sum()])
        total, count = self.accelerator.reduce(own.to(self.accelerator.device), "sum").tolist()
        return max(0.0, total / count), count

    def figures(self, passes: Sequence[Batch], losses: Sequence[torch.Tensor]) -> dict[str, float]:
        """Return the loss of validation passes, and the share of units on the right side of it.

        For `dpo` these are the pairs whose accepted completion gained more than the rejected one, for `kto` the turns
        whose likelihood moved as their verdict says, more than that of other contexts' completions.
        """
        units = self.held_out.units(passes, losses)
        kl, count = self.share(units)
        loss = self.loss(units.ratio, units.accepted, self.beta, kl)
        # At no gain, the loss of a unit is that of a margin of 0.
        even = self.loss(torch.tensor([[kl, kl]], dtype=torch.float64), torch.tensor([True]), self.beta, kl)
        won = torch.where(loss == even, 0.5, (loss < even).double())
        own = torch.stack([(each * units.times).sum() for each in (loss, won)])
        sums = self.accelerator.reduce(own.to(self.accelerator.device), "sum")
        values = (sums / count).tolist()
        return dict(zip(("validation_loss", "validation_preference_accuracy"), values, strict=True))
