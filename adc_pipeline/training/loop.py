"""The training loop, from the job to the folder of the fine-tuned model.

Accelerate brings devices, mixed precision and processes; the loop is our own because a packed step has
to be normalised over all its tokens, resumed to the bit and started quickly (transformers' Trainer alone
takes seconds to import). Losses stay on the device until an interval ends, so that a GPU is never waited
for in between.
"""

import importlib.metadata
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training import devices
from adc_pipeline.training.adapters import add_adapters
from adc_pipeline.training.arrangement import arrangement, arrangement_facts
from adc_pipeline.training.attention import attends_apart
from adc_pipeline.training.batches import NOTHING, Batch, PackedSplit
from adc_pipeline.training.checkpoint import (
    claim,
    drop_other_layouts,
    fingerprint,
    keep_trained_weights_only,
    load_checkpoint,
    save_checkpoint,
)
from adc_pipeline.training.dataset import tokenize_split
from adc_pipeline.training.export import export_model
from adc_pipeline.training.interval import Interval, PartLosses
from adc_pipeline.training.losses import weighted_loss
from adc_pipeline.training.model import (
    TokenLosses,
    check_backgrounds,
    check_context,
    check_packing,
    compile_blocks,
    load_model,
)
from adc_pipeline.training.optimization import adamw, learning_rate
from adc_pipeline.training.progress import Progress, duration
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline.training.stopping import LossWatch, StopSignal, told_plainly
from adc_pipeline.training.tokens import MarkerTokenizer
from adc_pipeline.training.utilization import flops_per_token, peak_flops

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(job: TrainingJob) -> dict[str, Any]:
    """Run a job, or go on with it; returns the facts that `training.json` in the output holds.

    Raises PipelineError for an empty training split, rows longer than the model's context, a model that
    cannot keep packed walks apart, a loss that is no longer a number or jumps, too little memory or disk, and,
    after a checkpoint, for SIGTERM.
    """
    with told_plainly(job):
        return _train(job)


def _train(job: TrainingJob) -> dict[str, Any]:
    from accelerate.utils import set_seed

    accelerator = devices.start()
    settings, main, processes = job.settings, accelerator.is_main_process, accelerator.num_processes
    on_cpu, sharded = accelerator.device.type == "cpu", devices.shards_weights(accelerator)
    if sharded and settings.lora_rank:
        raise PipelineError(
            f"`lora_rank` {settings.lora_rank} does not go with weights that FSDP spreads over processes; set it to 0,"
            " or choose another `accelerate_config`, such as multi_gpu.yaml."
        )
    tokenizer = MarkerTokenizer.load(job.base_model)
    base = load_model(job.base_model)
    check_context(base, settings.sequence_length)
    if not sharded:
        base.to(accelerator.device)
    # On a CPU walks are of lengths that a compiled model would be compiled for, one by one; weights that FSDP is
    # to spread over GPUs are not there yet, where it would have to be tried.
    untried = settings.compile if on_cpu else sharded
    apart = not untried and attends_apart(base)
    if not apart:
        check_packing(base)

    anew = main and _prepare_work(job, tokenizer)
    accelerator.wait_for_everyone()
    data = PackedSplit(job.work / "tokens" / "train", settings, processes, apart, fixed_shape=not on_cpu)
    # The likelihood of every token, whatever the objective, so that runs can be compared.
    likelihood = replace(settings, objective="mle")
    held_out = PackedSplit(job.work / "tokens" / "validation", likelihood, processes, apart, fixed_shape=not on_cpu)
    if not data.split.walks:
        raise PipelineError(f"The training split of {job.dataset} is empty; use a larger corpus or fewer filters.")
    check_backgrounds(base, data.split)
    rows_per_step = max(1, round(settings.tokens_per_step / data.row / processes)) * processes
    total = settings.max_steps or math.ceil(settings.epochs * data.order.rows_per_epoch / rows_per_step)

    # The same on every process, which FSDP and data parallelism expect of what LoRA draws at random.
    set_seed(settings.seed)
    parameters = base.num_parameters()
    if settings.lora_rank:
        add_adapters(base, settings, tokenizer.marker_ids)
    if settings.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        compile_blocks(base)
    trained_parameters, flops = base.num_parameters(only_trainable=True), flops_per_token(base, data.attended)
    peak = None if on_cpu else peak_flops(devices.device_name(accelerator))
    set_seed(settings.seed, device_specific=True)
    model, optimizer = accelerator.prepare(TokenLosses(base.train()), adamw(base, settings))
    # Frozen weights are the base model's, which is on disk.
    in_part = bool(settings.lora_rank)
    if in_part:
        keep_trained_weights_only(accelerator, model)
    layout = [data.row, rows_per_step]
    if main:
        drop_other_layouts(job.work, layout)
    accelerator.wait_for_everyone()
    position = load_checkpoint(accelerator, job.work, in_part)
    first, tokens, seconds = position["step"], position["tokens"], position["seconds"]
    figures: dict[str, float] = position["figures"]

    watch = LossWatch(settings.max_loss_jump, position.get("recent_losses", ()))

    with Progress(job.work, first, total, main) as progress, StopSignal() as stop:
        if anew:
            progress.say(f"{job.work} was another job's (other settings, data or base model): starting anew.")
        if first:
            progress.say(f"Going on after step {first} of {total}.")
        _announce(progress, data, settings, f"{total} steps of {rows_per_step}", devices.device_name(accelerator))
        interval = Interval(accelerator.device)
        for step in range(first + 1, total + 1):
            rows = data.order.rows((step - 1) * rows_per_step, step * rows_per_step)
            passes = data.passes(rows.take(np.arange(accelerator.process_index, rows_per_step, processes)))
            rate = learning_rate(settings, step, total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            asked = _update(accelerator, model, optimizer, passes, settings.max_grad_norm, interval, stop.asked)
            interval.tokens += data.tokens(rows)
            progress.stepped()

            last = step == total
            save = asked or (settings.checkpoint_every and (last or step % settings.checkpoint_every == 0))
            validate = last or (settings.validate_every and step % settings.validate_every == 0)
            if not (save or validate or step % settings.log_every == 0):
                continue
            _stop_if_broken(watch, interval.losses(accelerator), step, rows_per_step, data)
            figures = {**interval.figures(accelerator), "learning_rate": rate}
            if peak is not None:
                figures["mfu"] = figures["tokens_per_second"] * flops / (peak * processes)
            tokens, seconds = tokens + interval.tokens, seconds + interval.seconds
            if validate and held_out.split.walks:
                figures |= _validation(accelerator, model, held_out, settings)
            memory = devices.memory_bytes(accelerator)
            progress.report({"step": step, "time": time.time(), "memory_bytes": memory, **figures})
            if save:
                position = {"step": step, "layout": layout, "tokens": tokens, "seconds": seconds, "figures": figures}
                position["recent_losses"] = list(watch.recent)
                save_checkpoint(accelerator, job.work, position, settings.keep_checkpoints)
            if asked and not last:
                raise PipelineError(
                    f"Stopped by SIGTERM after step {step} of {total}, which is saved in `work` {job.work}; run the"
                    " same job again to go on from there."
                )
            interval = Interval(accelerator.device)

        facts = {
            **arrangement_facts(settings),
            "steps": total,
            "tokens": tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
            "tokens_per_step": round(tokens / total, 1),
            "parameters": parameters,
            "trained_parameters": trained_parameters,
            "train": data.facts(),
            "validation": held_out.facts(),
            "final": figures,
            "memory_bytes": devices.memory_bytes(accelerator),
            "device": devices.device_name(accelerator),
            "processes": processes,
            "mixed_precision": accelerator.mixed_precision,
            "versions": _versions(),
        }
        export_model(accelerator, model, tokenizer, job, facts)
        progress.say(f"{total} steps, {tokens:,} tokens in {duration(seconds)}: {job.output} is written.")
    accelerator.end_training()
    return facts


def _announce(progress: Progress, data: PackedSplit, settings: TrainingSettings, steps: str, device: str) -> None:
    """What a person wants to know before the first step."""
    progress.say(
        f"{data.split.walks:,} walks, {len(data.split.ids):,} tokens: {steps} x {data.row} tokens, {data.fill:.1%} of"
        f" them filled, on {device}."
    )
    counts = data.pieces.counts
    if counts["walks_cut"]:
        progress.say(
            f"{counts['walks_cut']:,} walks are longer than `sequence_length` {settings.sequence_length} and were cut;"
            f" {counts['background_tokens_left_out']:,} tokens of overlong backgrounds are left out."
        )


def _prepare_work(job: TrainingJob, tokenizer: MarkerTokenizer) -> bool:
    """Tokenize what is not tokenized yet; whether another job's work had to be cleared away."""
    anew = claim(job.work, fingerprint(job))
    for split in ("train", "validation"):
        folder = job.work / "tokens" / split
        if not folder.exists():
            tokenize_split(tokenizer, job.dataset, split, folder, arrangement(job.settings))
    return anew


def _update(
    accelerator: "Accelerator",
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    passes: list[Batch],
    max_grad_norm: float,
    interval: Interval,
    asked: bool,
) -> bool:
    """One step: as many forward and backward passes as the memory asks for, then one update.

    Returns whether any process was `asked` to stop, so that all of them stop after the same step.
    """
    processes = accelerator.num_processes
    total = float(sum(batch.weights.sum() for batch in passes))
    if processes > 1:
        both = torch.tensor([total, float(asked)], device=accelerator.device)
        total, asking = accelerator.reduce(both, "sum").tolist()
        asked = asking > 0
    # Nothing but a long rejected turn may have fallen into a step; nothing is learned then.
    total = total or 1.0
    step_loss = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(passes, start=1):
        batch = batch.to(accelerator.device)
        # Processes exchange gradients once a step, with the last pass.
        with nullcontext() if number == len(passes) else accelerator.no_sync(model):
            losses = model(batch)
            loss = weighted_loss(losses, batch.weights, total)
            # Data parallelism averages the processes' gradients; here they are parts of one sum.
            accelerator.backward(loss * processes)
        step_loss += loss.detach()
        interval.parts.add(losses, batch.parts)
    gradient_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    interval.add(step_loss, gradient_norm)
    return asked


def _stop_if_broken(watch: LossWatch, losses: list[float], step: int, rows_per_step: int, data: PackedSplit) -> None:
    """Raise PipelineError for the first of the last len(losses) steps whose loss the watch finds wrong."""
    for number, loss in enumerate(losses, start=step - len(losses) + 1):
        if fault := watch.fault(loss):
            rows = data.order.rows((number - 1) * rows_per_step, number * rows_per_step)
            conversations = data.conversations(rows)
            named = ", ".join(conversations[:20]) + (", ..." if len(conversations) > 20 else "")
            raise PipelineError(
                f"The loss {fault} in step {number} (conversations {named}); lower `learning_rate`, raise"
                " `warmup`, or look at these conversations."
            )


def _validation(
    accelerator: "Accelerator", model: torch.nn.Module, held_out: PackedSplit, settings: TrainingSettings
) -> dict[str, float]:
    """The loss of each part on the first `validation_tokens` of the validation split, the same each time."""
    wanted = math.ceil(settings.validation_tokens / held_out.row)
    rows = held_out.order.rows(0, min(wanted, held_out.order.rows_per_epoch))
    processes = accelerator.num_processes
    # Every process goes through the model equally often, since with FSDP they do so together. Those that
    # would have nothing left take a row again, which does not count.
    mine = np.arange(accelerator.process_index, math.ceil(len(rows) / processes) * processes, processes)
    passes = held_out.passes(rows.take(mine % len(rows)))
    if mine[-1] >= len(rows):
        passes[-1].parts[-1] = NOTHING
    parts = PartLosses(accelerator.device)
    model.eval()
    with torch.no_grad():
        for batch in passes:
            batch = batch.to(accelerator.device)
            parts.add(model(batch), batch.parts)
    model.train()
    return parts.means(accelerator, "validation_loss")


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pyarrow")
    return {package: importlib.metadata.version(package) for package in packages}
