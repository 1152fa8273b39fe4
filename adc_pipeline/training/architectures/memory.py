"""Tell too little memory of a device or of the machine from other errors, whichever library reports it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from adc_pipeline.core.errors import PipelineError

_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator", "Cannot allocate memory")


@contextmanager
def enough_memory(refusal: PipelineError) -> Iterator[None]:
    """Raise `refusal` where the block needs more memory than a device or the machine has."""
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        if is_out_of_memory(error):
            raise refusal from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device or the machine has too little memory.

    PyTorch has a class of its own only for its allocators of devices. The libraries below them and its allocator on a
    CPU raise RuntimeError: `CUDA error: out of memory`, `CUBLAS_STATUS_ALLOC_FAILED`, `DefaultCPUAllocator: ...`.
    """
    known = isinstance(error, torch.OutOfMemoryError | MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)
