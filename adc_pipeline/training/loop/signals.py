"""Signals that ask a training to end.

Clusters and container runtimes send SIGTERM some seconds before they take the machine away, Ctrl+C and Dagster's
*Terminate* send SIGINT, often both to one process, and a closed terminal sends SIGHUP, which `nohup` has a process
ignore. During its steps a training saves a checkpoint first (`StopSignal`). Before the first step and after the last
there is nothing to save, and the process ends at once (`end_at_once`): an exception would be swallowed by the import of
torch, which takes seconds.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from adc_pipeline.core.signals import CANCELLED, handle, restore


def end_at_once(failure: Path) -> None:
    """End this process on a signal, with a sentence on the error stream and in the file `failure`."""

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        sentence = f"Stopped by {name} before the first step or after the last: there was nothing to save.\n"
        with suppress(OSError):
            failure.parent.mkdir(parents=True, exist_ok=True)
            # Not in place of the sentence of a first signal, or of an error.
            with failure.open("x") as file:
                file.write(sentence)
            os.write(2, sentence.encode())
        os._exit(CANCELLED)

    handle(end)


class StopSignal:
    """A context in which a signal to stop sets `received` instead of ending the process at once."""

    def __init__(self) -> None:
        self.received = False
        # Another process of the training may have received it.
        self.name = "a signal"
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = handle(self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        restore(self._before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received, self.name = True, signal.Signals(number).name
