"""Report a running fine-tune to a person, a log and MLflow.

A terminal shows a bar; elsewhere each interval prints a line, which the pipeline's step writes to Dagster's log.
Figures go to `metrics.jsonl`, one JSON object an interval, flushed at once, so that the parent process can relay them
while the training runs. Only the main process of a run reports.
"""

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adc_pipeline.core.records import checked_fields


class Progress:
    """A context manager around the steps first_step + 1 ... total; only the `main` process reports."""

    def __init__(self, work: Path, first_step: int, total: int, main: bool) -> None:
        self.first_step, self.total, self.main = first_step, total, main
        self._path = work / "metrics.jsonl"
        self._stack = ExitStack()
        self._bar: Any = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        if not self.main:
            return self
        cut_after(self._path, self.first_step)
        self._metrics = self._stack.enter_context(self._path.open("a"))
        if sys.stdout.isatty() and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = self._stack.enter_context(
                tqdm(total=self.total, initial=self.first_step, unit="step", dynamic_ncols=True)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def say(self, line: str) -> None:
        """Log a line for people."""
        if not self.main:
            return
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)

    def advance(self) -> None:
        """Advance the bar by a step, if there is one."""
        if self._bar is not None:
            self._bar.update()

    def report(self, figures: dict[str, float]) -> None:
        """Write the figures of an interval, and show `step`, `loss` and `tokens_per_second`."""
        if not self.main:
            return
        json.dump(figures, self._metrics, allow_nan=False)
        self._metrics.write("\n")
        self._metrics.flush()
        step = int(figures["step"])
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {figures['loss']:.3f}, {figures['tokens_per_second']:,.0f} tokens/s")
        else:
            left = (time.perf_counter() - self._began) / (step - self.first_step) * (self.total - step)
            self.say(
                f"step {step}/{self.total}: loss {figures['loss']:.3f},"
                f" {figures['tokens_per_second']:,.0f} tokens/s, {duration(left)} left"
            )


def read_figures(line: str) -> dict[str, float] | None:
    """Return the figures in a line of `metrics.jsonl`, or None if it was cut off or damaged."""
    try:
        return checked_fields(json.loads(line), {"step": int}) if line.endswith("\n") else None
    except ValueError:
        return None


def cut_after(path: Path, step: int) -> None:
    """Remove the lines of a metrics file after `step`, and all after a line that was cut off or damaged."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        figures = read_figures(line)
        if figures is None or figures["step"] > step:
            break
        kept.append(line)
    path.write_text("".join(kept))


def duration(seconds: float) -> str:
    """Format a length of time: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
