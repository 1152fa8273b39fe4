"""What a training runs on: devices, processes, precision, threads, memory.

Accelerate decides from the environment that `accelerate launch` sets; here stands only what it does not.
"""

import os
import resource
import sys
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def start() -> "Accelerator":
    """The Accelerator of this process, joined with the others that the launcher started."""
    from accelerate import Accelerator

    # Said outright, several processes without GPUs find one another too; Accelerate would take them for loners.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=_precision())
    if accelerator.device.type == "cpu" and hasattr(os, "sched_getaffinity"):
        # The launcher's choice is the number of physical cores, or one.
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes_here))
    return accelerator


def _precision() -> str:
    """bfloat16 where a GPU computes in it and nothing else was asked for; never where it has to be emulated."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if not torch.cuda.is_available():
        return asked or "no"
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if asked is None or (asked == "bf16" and not supported):
        return "bf16" if supported else "no"
    return asked


def shards_weights(accelerator: "Accelerator") -> bool:
    """Whether each process holds only a part of the weights (FSDP)."""
    from accelerate import DistributedType

    return bool(accelerator.distributed_type == DistributedType.FSDP)


def memory_bytes(accelerator: "Accelerator") -> int:
    """Most bytes held so far: of the GPU where there is one, else of the process."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(accelerator: "Accelerator") -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{accelerator.device.type}, {torch.get_num_threads()} threads"
