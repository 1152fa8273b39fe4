"""End a training early, with one sentence: on a signal, on a loss that went wrong, on too little memory or disk.

A training that receives SIGTERM, SIGINT or SIGHUP saves a checkpoint first. One whose loss went wrong does not, since
that checkpoint would contain the fault.
"""

import math
import signal
import statistics
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.training.settings import TrainingJob, TrainingSettings

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Steps of the running median, and the fewest steps that it is taken over.
WINDOW, FEWEST = 100, 10


class StopSignal:
    """A context in which a signal to stop sets `received` instead of ending the process at once.

    Clusters and container runtimes send SIGTERM some seconds before they take the machine away, Ctrl+C and Dagster's
    *Terminate* send SIGINT, often both to one process, and a closed terminal sends SIGHUP, which `nohup` has a process
    ignore. Outside the main thread, where Python allows no handlers, it changes nothing.
    """

    def __init__(self) -> None:
        self.received = False
        # Another process of the training may have received it.
        self.name = "a signal"
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received, self.name = True, signal.Signals(number).name


class LossWatch:
    """Detects a loss that is not finite, or is more than `most` times the median of the last `WINDOW` steps.

    With `most` 0 no jump is too large. A median below 1 counts as 1: for a model that knows its texts by heart any
    other text is a jump, but no fault. `recent` are the losses to go on from.
    """

    def __init__(self, most: float, recent: Iterable[float] = ()) -> None:
        self.most = most
        self.recent = deque(recent, maxlen=WINDOW)

    def fault(self, loss: float) -> str | None:
        """Return what is wrong with the loss of the next step, as a part of a sentence; None if nothing is."""
        if not math.isfinite(loss):
            return f"became {loss}"
        if self.most and len(self.recent) >= FEWEST:
            median = statistics.median(self.recent)
            if loss > self.most * max(median, 1.0):
                return f"jumped to {loss:.4g} from a median of {median:.4g}, beyond `max_loss_jump` {self.most:g},"
        self.recent.append(loss)
        return None


@contextmanager
def translated_errors(job: TrainingJob) -> Iterator[None]:
    """Raise PipelineError instead of the errors of PyTorch and the system about too little memory or disk."""
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        if is_out_of_memory(error):
            raise PipelineError(f"The training ran out of memory; {memory_advice(job.settings)}.") from error
        if is_disk_full(error) or _is_cut_short(error):
            raise PipelineError(
                f"The disk is full (`work` {job.work}, `output` {job.output}, both in ADC_HOME where the pipeline"
                f" trains; `keep_checkpoints` {job.settings.keep_checkpoints}); make room and run it again to resume"
                " from the last checkpoint."
            ) from error
        raise


def memory_advice(settings: TrainingSettings) -> str:
    """Say how to use less memory, as a part of a sentence; first by settings that keep the run's checkpoints."""
    longest = max(settings.sequence_length, min(settings.tokens_per_forward, settings.tokens_per_step))
    ways = []
    if longest > settings.sequence_length:
        ways.append(f"lower `tokens_per_forward` below {longest}, down to `sequence_length` {settings.sequence_length}")
    if not settings.gradient_checkpointing:
        ways.append("set `gradient_checkpointing` to true")
    if ways:
        return f"{', or '.join(ways)}, and run it again to resume from the last checkpoint"
    return "start over with a smaller base model or more memory, since its passes are as small as they can be"


def is_out_of_memory(error: BaseException) -> bool:
    # On a CPU PyTorch has no class of its own for it.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _is_cut_short(error: BaseException) -> bool:
    """Return whether PyTorch could not write all of a file: on a full disk it raises one of these without the cause."""
    return any(words in str(error) for words in ("PytorchStreamWriter", "unexpected pos", "iostream error"))
