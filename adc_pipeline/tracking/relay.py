"""Relay metrics from a training process to MLflow.

The training does not depend on MLflow: it appends JSON lines to a file, which a thread here follows. An unavailable
tracking server therefore never stops the training; pending metrics are sent when it answers again. If it is still
unavailable when the block ends, the metrics remain in the file, and a warning is logged.
"""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adc_pipeline.tracking.run import Run

SECONDS = 2.0


@contextmanager
def relayed(metrics: Path, run: Run) -> Iterator[None]:
    """Send existing and new lines of the file `metrics` to `run` while the block runs."""
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
    """Follows a metrics file; `sent` is the last step that was sent."""

    def __init__(self, metrics: Path, run: Run) -> None:
        self.metrics, self.run = metrics, run
        self.sent = 0

    def send(self) -> None:
        """Send complete lines with a new step; offsets would not do, since a resumed training may truncate the file."""
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
