"""The devices of a training: processes, precision, threads and memory, as far as Accelerate does not decide them.

Accelerate reads the environment that `accelerate launch` sets.
"""

import os
import resource
import sys
from typing import TYPE_CHECKING

import torch

from adc_pipeline.training.architectures.probes import without_gradient

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def start() -> "Accelerator":
    """Return the Accelerator of this process, connected to the others that the launcher started."""
    from accelerate import Accelerator

    # With `cpu` set, several processes without GPUs connect as well.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=_precision())
    if accelerator.device.type == "cpu" and hasattr(os, "sched_getaffinity"):
        # The launcher sets the number of physical cores, or one.
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes_here))
    return accelerator


def allow_unused_weights(accelerator: "Accelerator", model: "PreTrainedModel") -> None:
    """Let processes exchange gradients although some of the model's weights get none: torch fails at the second step.

    To be called before the model is prepared. torch then looks for such weights in each step, which takes time, so that
    other models are trained without.
    """
    from accelerate import DistributedDataParallelKwargs

    if accelerator.num_processes > 1 and not shards_weights(accelerator) and without_gradient(model):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)


def one_device() -> torch.device:
    """Return where one process evaluates or generates: the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_one_core(accelerator: "Accelerator") -> None:
    """Compute with one thread on a CPU."""
    if accelerator.device.type == "cpu":
        torch.set_num_threads(1)


def _precision() -> str:
    """Return bfloat16 if the GPU supports it and no other precision was asked for; never emulated bfloat16."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if not torch.cuda.is_available():
        return asked or "no"
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if asked is None or (asked == "bf16" and not supported):
        return "bf16" if supported else "no"
    return asked


def shards_weights(accelerator: "Accelerator") -> bool:
    """Return whether each process holds only a shard of the weights (FSDP)."""
    from accelerate import DistributedType

    return bool(accelerator.distributed_type == DistributedType.FSDP)


def memory_bytes(accelerator: "Accelerator") -> int:
    """Return the peak memory in bytes, of the GPU if there is one, else of the process."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(accelerator: "Accelerator") -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{accelerator.device.type}, {torch.get_num_threads()} threads"
