"""Metrics on their way from a training process to MLflow.

The training knows nothing of MLflow: it appends JSON lines to a file, and this follows the file from a
thread. A tracking server that is away therefore never stops the training, and what it missed is sent when
it is back. If it is still away when the block ends, the file has what it missed, and a warning is logged.
"""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adc_pipeline.tracking.runs import Run

SECONDS = 2.0


@contextmanager
def relayed(metrics: Path, run: Run) -> Iterator[None]:
    """Send the lines of the file `metrics`, present and to come, to `run` while the block runs."""
    relay = _Relay(metrics, run)
    done = threading.Event()

    def send() -> None:
        try:
            relay.send()
        except Exception as error:
            logging.getLogger(__name__).warning("MLflow did not take metrics (%s)", type(error).__name__)

    def follow() -> None:
        while not done.wait(SECONDS):
            send()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        send()


class _Relay:
    """What of a metrics file has been sent."""

    def __init__(self, metrics: Path, run: Run) -> None:
        self.metrics, self.run = metrics, run
        self.sent = 0

    def send(self) -> None:
        """Send the whole lines whose step is new; a training that resumed may have cut the file."""
        if not self.metrics.exists():
            return
        for line in self.metrics.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                return
            figures = json.loads(line)
            step = int(figures.pop("step"))
            if step > self.sent:
                self.run.metrics(figures, step=step)
                self.sent = step
