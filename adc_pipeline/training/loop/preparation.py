"""Prepare a training: the base model on its device, the splits as tokens, and the data in steps."""

from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.attention import Separation
from adc_pipeline.training.architectures.context import check_sequence_length, context_length
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.architectures.probes import attention_of, choose_separation, set_attention
from adc_pipeline.training.loop import devices
from adc_pipeline.training.loop.checkpoint import claim, fingerprint, latest_layout
from adc_pipeline.training.objectives.weights import WEIGHTS
from adc_pipeline.training.rows.data import TrainingData, row_length
from adc_pipeline.training.rows.packing import cut_into_pieces
from adc_pipeline.training.settings import PREFERENCES, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.arrangement import arrangement
from adc_pipeline.training.texts.dataset import TokenizedSplit, load_split, tokenize_split
from adc_pipeline.training.texts.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def check_devices(settings: TrainingSettings, accelerator: "Accelerator") -> None:
    """Raise PipelineError for settings that do not work on these devices."""
    if settings.lora_rank and devices.shards_weights(accelerator):
        raise PipelineError(
            f"`lora_rank` {settings.lora_rank} does not work with weights that FSDP shards over processes; set it to 0,"
            " or choose another `accelerate_config`, such as multi_gpu.yaml."
        )


def load_base(job: TrainingJob, accelerator: "Accelerator") -> "PreTrainedModel":
    """Load the base model onto the device; weights that FSDP shards later stay on the CPU."""
    base = load_model(job.base_model)
    check_sequence_length(base, job.settings.sequence_length)
    if job.settings.gradient_checkpointing and not base.supports_gradient_checkpointing:
        raise PipelineError(
            f"`gradient_checkpointing` does not work with the base model, a {type(base).__name__}; set it to false."
        )
    if not devices.shards_weights(accelerator):
        base.to(accelerator.device)
    return base


def prepare_work(job: TrainingJob, tokenizer: MarkerTokenizer, accelerator: "Accelerator") -> bool:
    """Tokenize the splits that are not tokenized yet; return whether another job's work was removed."""
    restarted = False
    if accelerator.is_main_process:
        restarted = claim(job.work, fingerprint(job))
        for split in ("train", "validation"):
            folder = job.work / "tokens" / split
            if not folder.exists():
                tokenize_split(tokenizer, job.dataset, split, folder, arrangement(job.settings))
    accelerator.wait_for_everyone()
    return restarted


def load_data(job: TrainingJob, base: "PreTrainedModel", accelerator: "Accelerator") -> TrainingData:
    """Cut both splits into pieces, choose how the model keeps them apart, and lay them out in steps."""
    settings, processes = job.settings, accelerator.num_processes
    train, held_out = (load_split(job.work / "tokens" / split) for split in ("train", "validation"))
    if not train.walks and settings.objective in PREFERENCES:
        shown = {"dpo": "an accepted reply beside a rejected one", "kto": "replies of two conversations"}
        raise PipelineError(
            f"The training split of {job.dataset} has nothing for `objective` {settings.objective}, which needs"
            f" {shown[settings.objective]}, each of at most `sequence_length` {settings.sequence_length} tokens; choose"
            " another objective or another dataset."
        )
    if not train.walks:
        raise PipelineError(f"The training split of {job.dataset} is empty; use a larger corpus or fewer filters.")
    check_backgrounds(base, train)
    pieces = [cut_into_pieces(split, settings.sequence_length) for split in (train, held_out)]
    lengths = [length for each in pieces if len(each.lengths) for length in (each.lengths.min(), each.lengths.max())]
    separation = agreed_separation(base, settings, (int(min(lengths)), int(max(lengths))), accelerator)
    fixed_shape = accelerator.device.type != "cpu"
    return TrainingData(
        (train, held_out),
        (pieces[0], pieces[1]),
        WEIGHTS[settings.objective](train, settings),
        settings,
        processes,
        separation,
        fixed_shape,
        latest_layout(job.work),
    )


def agreed_separation(
    base: "PreTrainedModel", settings: TrainingSettings, lengths: tuple[int, int], accelerator: "Accelerator"
) -> Separation:
    """Choose how the walks of a step are kept apart, the same on every process.

    `lengths` are those of the shortest and the longest piece.
    """
    ways, on_cpu = get_args(Separation), accelerator.device.type == "cpu"
    sharded, own = devices.shards_weights(accelerator), attention_of(base)
    # Weights that are to be sharded are still on the CPU of every process; one of them probes there.
    found: Separation = ways[0]
    if accelerator.is_main_process or not sharded:
        row = row_length(settings, accelerator.num_processes, "kernel")
        # On a CPU a compiled model would be compiled for each length of a walk.
        kernel = not (settings.compile if on_cpu else sharded)
        with accelerator.autocast():
            found = choose_separation(base, lengths, settings.sequence_length, row, kernel)
    places = accelerator.gather(torch.tensor([ways.index(found)], device=accelerator.device))
    agreed: Separation = ways[int(places.max())]
    if agreed != "kernel":
        set_attention(base, own)
    if agreed == "passes" and sharded:
        raise PipelineError(
            f"The base model, a {type(base).__name__}, cannot keep packed walks apart, and with FSDP a walk cannot"
            " have a forward pass of its own; choose another base model, or another `accelerate_config`, such as"
            " multi_gpu.yaml."
        )
    return agreed


def check_backgrounds(model: "PreTrainedModel", split: TokenizedSplit) -> None:
    """Raise PipelineError if most backgrounds take more than half of the model's context, which turns need."""
    context = context_length(model)
    if context is None or not split.walks:
        return
    lengths = np.add.reduceat(split.turn < 0, split.walk_start[:-1], dtype=np.int64)  # (walks,)
    too_long = float((lengths > context // 2).mean())
    if too_long > 0.5:
        raise PipelineError(
            f"The base model's context of {context} tokens is too short: the backgrounds of {too_long:.0%} of the walks"
            " take more than half of it; choose a base model with a longer context."
        )


def compile_blocks(model: "PreTrainedModel") -> None:
    """Compile each transformer block; since all are alike, one compilation serves every layer."""
    blocks = set(model._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in blocks:
            module.compile()
