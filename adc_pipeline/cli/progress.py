"""What `adc run` shows of a run: one line a step when it ends, and at a terminal what the current step is doing."""

import os
import shutil
import time
from typing import TYPE_CHECKING, TextIO

from adc_pipeline.core.terminal import printable
from adc_pipeline.defs.failures import reason

if TYPE_CHECKING:
    from dagster import DagsterEvent, EventLogEntry

# Move to the start of the line and erase it.
ERASE = "\r\x1b[K"
# Without a terminal, a long step writes a line at least this often.
SECONDS_BETWEEN_LINES = 30.0
# As in `logging`; what Dagster logs as an error is either said by the step or about steps that are not executed.
INFO, WARNING = 20, 30


class Progress:
    """Shows the events of one run on `out`; `sentences` are the reasons why steps failed."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.at_terminal = out.isatty()
        self.sentences: list[str] = []
        self.outcomes: dict[str, str] = {}  # by step: what its line says beside the time
        self.began = self.written = time.monotonic()

    def event(self, entry: "EventLogEntry") -> None:
        """Show what is of interest to a person in an entry of the run's event log."""
        if entry.dagster_event is None:
            self.message(entry)
        elif entry.step_key:
            self.step(entry.step_key, entry.dagster_event)

    def message(self, entry: "EventLogEntry") -> None:
        """Show what the pipeline logged: the progress of a step, a warning, or a line about the whole run."""
        text = entry.user_message.strip()
        if entry.step_key is None:
            self.line(text)
        elif entry.level == WARNING:
            self.line(f"{entry.step_key}: {text}")
        elif INFO <= int(entry.level) < WARNING and text:
            self.status(f"{entry.step_key}: {text.splitlines()[0]}")

    def step(self, name: str, event: "DagsterEvent") -> None:
        """Show what happened to a step."""
        if event.is_step_start:
            self.began = time.monotonic()
            self.status(name)
        elif event.is_step_materialization:
            unchanged = event.step_materialization_data.materialization.metadata.get("unchanged")
            self.outcomes[name] = "unchanged" if unchanged is not None and unchanged.value else "made"
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            # The step of an asset, which may evaluate a check of its own, shows whether it was made.
            outcome = "passed" if check.passed else f"not passed: {check.description or check.check_name}"
            self.outcomes.setdefault(name, outcome)
        elif event.is_step_success:
            self.end(name, self.outcomes.get(name, "done"))
        elif event.is_step_failure:
            # A check that does not pass and blocks what follows has said why.
            outcome = self.outcomes.get(name, "")
            source = event.step_failure_data.error_source
            if source is not None and source.value == "INTERRUPT":
                self.end(name, "cancelled")
                return
            self.end(name, "failed")
            self.sentences.append(f"{name}: {outcome}" if outcome.startswith("not passed") else reason(event))

    def end(self, name: str, outcome: str) -> None:
        """Write the line of a step that has ended."""
        self.line(f"{name:42} {time.monotonic() - self.began:8.1f} s  {outcome}")

    def line(self, text: str) -> None:
        """Write lines that stay."""
        self.clear()
        self.write("".join(f"{printable(line)}\n" for line in text.splitlines()))

    def status(self, text: str) -> None:
        """Replace the line below those that stay; without a terminal, write it now and then."""
        if self.at_terminal:
            self.write(ERASE + printable(text)[: shutil.get_terminal_size().columns - 1])
        elif time.monotonic() - self.written >= SECONDS_BETWEEN_LINES:
            self.write(f"{printable(text)}\n")

    def clear(self) -> None:
        """Remove the status."""
        if self.at_terminal:
            self.write(ERASE)

    def write(self, text: str) -> None:
        self.written = time.monotonic()
        try:
            self.out.write(text)
            self.out.flush()
        except OSError:
            # The reader has ended, as `head` does, or the terminal is closed: the run's log is in a file.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.out.fileno())
