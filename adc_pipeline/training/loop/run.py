"""A training in progress: update, check, report and save.

Losses stay on the device until an interval ends, so that a run does not wait for a GPU in between.
"""

import importlib.metadata
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.adapters import adapted_share, add_adapters
from adc_pipeline.training.architectures.probes import computes_auxiliary_loss
from adc_pipeline.training.export.sameness import ReadText, first_text
from adc_pipeline.training.loop import devices
from adc_pipeline.training.loop.checkpoint import (
    Position,
    drop_other_layouts,
    keep_trained_weights_only,
    load_checkpoint,
    save_checkpoint,
)
from adc_pipeline.training.loop.interval import Interval, PartLosses
from adc_pipeline.training.loop.optimization import adamw, learning_rate
from adc_pipeline.training.loop.preparation import compile_blocks
from adc_pipeline.training.loop.progress import Progress
from adc_pipeline.training.loop.stopping import LossWatch, OverflowWatch
from adc_pipeline.training.loop.utilization import flops_per_token, peak_flops
from adc_pipeline.training.objectives.losses import TokenLosses, auxiliary_weight, weighted_loss
from adc_pipeline.training.objectives.preferences import Preference
from adc_pipeline.training.rows.batches import NOTHING, Batch
from adc_pipeline.training.rows.data import TrainingData
from adc_pipeline.training.settings import PREFERENCES, TrainingJob
from adc_pipeline.training.texts.arrangement import arrangement_facts
from adc_pipeline.training.texts.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Run:
    """A training in progress: model, optimizer, data, and how far it is."""

    def __init__(
        self,
        job: TrainingJob,
        accelerator: "Accelerator",
        base: "PreTrainedModel",
        tokenizer: MarkerTokenizer,
        data: TrainingData,
        auxiliary: str | None,
    ) -> None:
        from accelerate.utils import set_seed

        self.job, self.settings, self.accelerator, self.data = job, job.settings, accelerator, data
        # The same on every process: FSDP and data parallelism need the same random adapters.
        set_seed(self.settings.seed)
        self.parameters = base.num_parameters()
        self.auxiliary_loss = auxiliary
        self.adapted = None
        if self.settings.lora_rank:
            add_adapters(base, self.settings, tokenizer.marker_ids)
            self.adapted = adapted_share(base)
        devices.allow_unused_weights(accelerator, base)
        if self.settings.gradient_checkpointing:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        if self.settings.compile:
            compile_blocks(base)
        self.trained_parameters = base.num_parameters(only_trainable=True)
        self.flops_per_token = flops_per_token(base, data.train.attended)
        on_cpu = accelerator.device.type == "cpu"
        self.peak_flops = None if on_cpu else peak_flops(devices.device_name(accelerator))
        set_seed(self.settings.seed, device_specific=True)
        losses = TokenLosses(base.train(), auxiliary_weight(base))
        self.model, self.optimizer = accelerator.prepare(losses, adamw(base, self.settings))
        self.interval = Interval(accelerator.device)
        self.preference = None
        if self.settings.objective in PREFERENCES:
            stored = job.work / "tokens" / "reference"
            self.preference = Preference(self.settings, data, stored, self.evaluated, accelerator)

    def resume(self) -> None:
        """Restore the newest checkpoint of the same layout, if there is one."""
        # Every process has read the layout of the newest checkpoint before any checkpoint is removed.
        self.accelerator.wait_for_everyone()
        # Frozen weights are the base model's, which is on disk.
        in_part = bool(self.settings.lora_rank)
        if in_part:
            keep_trained_weights_only(self.accelerator)
        if self.accelerator.is_main_process:
            drop_other_layouts(self.job.work, self.data.layout)
        self.accelerator.wait_for_everyone()
        self.position = load_checkpoint(self.accelerator, self.job.work, in_part)
        # The losses of `dpo` and `kto` fall to 0, from where every pair is a jump.
        jump = 0.0 if self.preference else self.settings.max_loss_jump
        self.watch = LossWatch(jump, self.position.recent_losses)
        self.overflows = OverflowWatch()
        self.interval = Interval(self.accelerator.device)

    def update(self, step: int, stop_received: bool) -> bool:
        """Update the weights once; return whether any process is to stop, so that all do after one step."""
        self.rate = learning_rate(self.settings, step, self.data.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        rows = self.data.rows(step)
        passes = self.data.passes(rows, self.accelerator.process_index)
        step_totals = totals(self.accelerator, passes, self.data.train.per_token, stop_received)
        if self.preference:
            passes, preference_loss = self.preference.weigh(passes)
            step_totals = step_totals._replace(weight=1.0)
        loss = accumulate_gradients(self.accelerator, self.model, passes, step_totals, self.interval.parts)
        if self.preference:
            loss = preference_loss
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.interval.add(loss, norm)
        self.interval.tokens += self.data.train.tokens(rows)
        return step_totals.stopping

    def validates(self, step: int) -> bool:
        every = self.settings.validate_every
        return step == self.data.steps or bool(every and step % every == 0)

    def saves(self, step: int, stopping: bool) -> bool:
        every = self.settings.checkpoint_every
        return stopping or bool(every and (step == self.data.steps or step % every == 0))

    def is_due(self, step: int, stopping: bool) -> bool:
        """Return whether an interval ends with this step."""
        return self.saves(step, stopping) or self.validates(step) or step % self.settings.log_every == 0

    def report(self, step: int, progress: Progress) -> None:
        """End the interval: validate if it is time, and report the figures."""
        interval, before = self.interval, self.position
        figures = {**interval.figures(self.accelerator), "learning_rate": self.rate}
        if self.peak_flops is not None:
            peak = self.peak_flops * self.accelerator.num_processes
            figures["mfu"] = figures["tokens_per_second"] * self.flops_per_token / peak
        tokens, seconds = before.tokens + interval.tokens, before.seconds + interval.seconds
        if self.validates(step) and self.data.held_out.split.walks:
            figures |= self.validation_losses(step)
        memory = devices.memory_bytes(self.accelerator)
        progress.report({"step": step, "time": time.time(), "memory_bytes": memory, **figures})
        self.position = Position(step, tokens, seconds, figures, list(self.watch.recent))
        self.interval = Interval(self.accelerator.device)

    def check_steps(self, step: int) -> None:
        """Raise PipelineError for the first step of the interval, which ends with `step`, that went wrong."""
        losses, norms = self.interval.losses(self.accelerator), self.interval.gradient_norms()
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=step - len(losses) + 1):
            fault = self.watch.fault(loss)
            wrong = f"loss {fault}" if fault else ""
            # With float16, gradients overflow at times, and the scaler skips the step.
            if self.accelerator.scaler is not None:
                self.overflows.check(norm, number, self.data.steps)
            elif not wrong and not math.isfinite(norm):
                wrong = f"gradient norm became {norm}"
            if wrong:
                conversations = self.data.train.conversations(self.data.rows(number))
                named = ", ".join(conversations[:20]) + (", ..." if len(conversations) > 20 else "")
                raise PipelineError(
                    f"The {wrong} in step {number} (conversations {named}); lower `learning_rate`, raise `warmup`, or"
                    " look at these conversations."
                )

    def check_weights(self, step: int) -> None:
        """Raise PipelineError if the weights after this step are not finite, or give a loss that is not.

        The loss of a step is from before its update. Without a validation, one pass of the step is run again.
        """
        finite = torch.stack([own_part(one).isfinite().all() for one in self.model.parameters()]).all()
        broken = int(self.accelerator.reduce((~finite).float(), "sum"))
        if not broken and not (self.validates(step) and self.data.held_out.split.walks):
            batch = self.data.passes(self.data.rows(step), self.accelerator.process_index)[0]
            losses = self.evaluated(batch.to(self.accelerator.device))
            broken = int(self.accelerator.reduce((~losses.isfinite()).any().float(), "sum"))
        if broken:
            raise diverged("weights are no longer finite, or give a loss that is not,", step)

    def read_text(self) -> ReadText:
        """Return a piece of the last step with its losses, as the trained model gives them."""
        batch = self.data.passes(self.data.rows(self.data.steps), self.accelerator.process_index)[0]
        batch = replace(batch, unlikely=None).to(self.accelerator.device)
        return first_text(batch, self.evaluated(batch))

    def evaluated(self, batch: Batch) -> torch.Tensor:
        """Return the losses of a batch, (rows, row), in evaluation mode and without gradients."""
        self.model.eval()
        with torch.no_grad():
            losses: torch.Tensor = self.model(batch).tokens
        self.model.train()
        return losses

    def validation_losses(self, step: int) -> dict[str, float]:
        """Return the loss of each part on the first `validation_tokens` of the validation split.

        Raises PipelineError if one is not finite.
        """
        parts = PartLosses(self.accelerator.device)
        passes, found = self.data.validation_passes(self.accelerator.process_index), []
        for batch in passes:
            batch = batch.to(self.accelerator.device)
            losses_of_tokens = self.evaluated(batch)
            parts.add(losses_of_tokens, batch.parts)
            if self.preference:
                found.append(losses_of_tokens.cpu())
        losses = parts.means(self.accelerator, "validation_loss")
        if self.preference:
            losses |= self.preference.figures(passes, found)
        if broken := [loss for loss in losses.values() if not math.isfinite(loss)]:
            raise diverged(f"validation loss is {broken[0]}", step)
        return losses

    def save(self) -> None:
        save_checkpoint(
            self.accelerator, self.job.work, self.position, self.data.layout, self.settings.keep_checkpoints
        )

    def facts(self) -> dict[str, Any]:
        """Return what `training.json` contains."""
        data, position = self.data, self.position
        return {
            **arrangement_facts(self.settings),
            "steps": data.steps,
            "tokens": position.tokens,
            "seconds": round(position.seconds, 3),
            "tokens_per_second": round(position.tokens / position.seconds, 1),
            "tokens_per_step": round(position.tokens / data.steps, 1),
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
            **({"adapted_share": round(self.adapted.adapted, 4)} if self.adapted else {}),
            "train": data.train.facts(),
            "validation": data.held_out.facts(),
            "final": position.figures,
            "memory_bytes": devices.memory_bytes(self.accelerator),
            "device": devices.device_name(self.accelerator),
            "processes": self.accelerator.num_processes,
            "mixed_precision": self.accelerator.mixed_precision,
            "separation": data.train.separation,
            "auxiliary_loss": self.auxiliary_loss,
            "versions": package_versions(),
        }


def auxiliary_loss(base: "PreTrainedModel") -> str | None:
    """Describe the auxiliary loss of the routers, if the base model asks for one (`output_router_logits`)."""
    weight = auxiliary_weight(base)
    if not weight:
        return None
    return f"added with weight {weight:g}" if computes_auxiliary_loss(base) else "excluded, its code computes none"


class Totals(NamedTuple):
    """Of a step, over all processes: the sum of weights, the number of passes, and whether one is to stop.

    `scale` multiplies the weighted mean that is learned: the mean weight of a token where the objective divides by the
    number of tokens, else 1.
    """

    weight: float
    scale: float
    passes: float
    stopping: bool


def totals(accelerator: "Accelerator", passes: list[Batch], per_token: bool, stop_received: bool) -> Totals:
    """Bring together what the processes know of a step; `per_token` as in `rows.batches.TurnWeights`."""
    weight, count, stops = (
        float(sum(batch.weights.sum() for batch in passes)),
        float(sum(batch.counts for batch in passes)),
        stop_received,
    )
    tokens = float(sum((batch.parts != NOTHING).sum() for batch in passes))
    if accelerator.num_processes > 1:
        own = torch.tensor([weight, tokens, count, float(stops)], device=accelerator.device)
        weight, tokens, count, stops = accelerator.reduce(own, "sum").tolist()
    # A step may consist of nothing but a long rejected turn; it learns nothing then.
    return Totals(weight or 1.0, weight / max(tokens, 1.0) if per_token else 1.0, count, stops > 0)


def accumulate_gradients(
    accelerator: "Accelerator", model: torch.nn.Module, passes: list[Batch], total: Totals, parts: PartLosses
) -> torch.Tensor:
    """Run the forward and backward passes of a step; return this process's share of its loss, a scalar.

    What is returned is the weighted mean of the tokens' losses for every objective, so that `LossWatch` does not take a
    step of well-liked turns for a jump. `total.scale` only applies to the gradients.
    The auxiliary loss of a mixture of experts adds to the gradients, but not to the loss that is returned.
    """
    step_loss = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(passes, start=1):
        batch = batch.to(accelerator.device)
        # Processes exchange gradients once a step, with the last pass.
        with nullcontext() if number == len(passes) else accelerator.no_sync(model):
            losses, auxiliary = model(batch)  # (rows, row), and a scalar or None
            loss = weighted_loss(losses, batch.weights, total.weight)
            learned = loss * total.scale
            if auxiliary is not None:
                learned = learned + batch.counts * auxiliary / total.passes
            # Data parallelism averages the processes' gradients; here they are parts of one sum.
            accelerator.backward(learned * accelerator.num_processes)
        step_loss += loss.detach()
        parts.add(losses, batch.parts)
    return step_loss


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor, or of a tensor that FSDP shards the part of this process."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def diverged(what: str, step: int) -> PipelineError:
    return PipelineError(
        f"The {what} after step {step}, so that no checkpoint or model was written; lower `learning_rate` or raise"
        " `warmup`."
    )


def package_versions() -> dict[str, str]:
    packages = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pyarrow")
    return {package: importlib.metadata.version(package) for package in packages}
