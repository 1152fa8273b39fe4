"""End a training early, with one sentence: on a loss that went wrong, on too little memory or disk.

A training whose loss went wrong saves no checkpoint, since that would contain the fault. `signals` is about signals.
"""

import errno
import math
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.refused_writes import is_cut_short, reason, refused_write
from adc_pipeline.training.architectures.memory import enough_memory
from adc_pipeline.training.settings import TrainingJob, TrainingSettings

# Steps of the running median, and the fewest steps that it is taken over.
WINDOW, FEWEST = 100, 10
# Steps one after the other that float16 may skip.
SKIPPED = 40


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


class OverflowWatch:
    """Detects gradients that overflow float16 in every step.

    The scaler of float16 skips such a step and halves its factor; at the start that may take some 20 steps. Gradients
    that go on like this are not a number whatever the factor, and the weights stay as they were.
    """

    def __init__(self) -> None:
        self.skipped = self.steps = 0

    def check(self, norm: float, step: int, steps: int) -> None:
        """Look at the gradient norm of the next step, `step` of `steps`; raise PipelineError if all overflow."""
        self.steps += 1
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        if self.skipped >= SKIPPED or (step == steps and self.skipped == self.steps):
            raise PipelineError(
                f"Gradients overflowed float16 in each of the last {self.skipped} steps, up to step {step}, and the"
                " weights stayed as they were; set `mixed_precision` to bf16 or no in the file that `accelerate_config`"
                " names, or choose another base model."
            )


@contextmanager
def translated_errors(job: TrainingJob) -> Iterator[None]:
    """Raise PipelineError instead of the errors of PyTorch and the system about too little memory or disk."""
    try:
        with enough_memory(PipelineError(f"The training ran out of memory; {memory_advice(job.settings)}.")):
            yield
    except PipelineError:
        raise
    except Exception as error:
        number = refused_write(error, job.work)
        if number in (errno.ENOSPC, errno.EDQUOT) or (is_cut_short(error) and not reason(number)):
            raise PipelineError(
                f"The disk is full (`work` {job.work}, `output` {job.output}, both in ADC_HOME where the pipeline"
                f" trains; `keep_checkpoints` {job.settings.keep_checkpoints}); make room and run it again to resume"
                " from the last checkpoint."
            ) from error
        if refused := reason(number):
            raise PipelineError(
                f"The training in {job.work} cannot go on {refused}, and run it again to resume from the last"
                " checkpoint."
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
