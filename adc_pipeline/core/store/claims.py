"""Locks that let one run at a time make an asset in an ADC_HOME, from its first write until the run ends.

Atomic renames keep every stored artefact complete, whichever run writes it. They do not prevent a run from ranking the
utterances that another run has just read from a different corpus. A run therefore locks each asset that it makes until
it ends: `ADC_HOME/claims/ASSET` is the lock's file and names the holder. The operating system releases the lock when
the process ends, however it ends, so a killed run never blocks the next.

No run waits for ever: it reports that it waits, and raises an error after a set time. Of two runs that wait for each
other, each ends with that error.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.links import locked

SECONDS_BETWEEN_ATTEMPTS = 0.2
# Doubled with each report, since a run may wait for a day and the reports are in its log.
SECONDS_BETWEEN_REPORTS, MOST_SECONDS_BETWEEN_REPORTS = 5.0, 600.0


class Claims:
    """The locks of one run; all are released at the end of the block."""

    def __init__(self, folder: Path, holder: str) -> None:
        self.folder, self.holder = folder, holder
        self.held: dict[str, ExitStack] = {}

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stack in self.held.values():
            stack.close()
        self.held.clear()

    def take(self, name: str, seconds: float, report: Callable[[str], None]) -> None:
        """Lock an asset; raise PipelineError if another run still makes it after `seconds`."""
        if name in self.held:
            return
        file = self.folder / name.replace("/", "%")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        began, next_report, pause, other = time.monotonic(), 0.0, SECONDS_BETWEEN_REPORTS, ""
        with ExitStack() as stack:
            while not stack.enter_context(locked(file)):
                stack.close()
                waited = time.monotonic() - began
                other = file.read_text(errors="replace").strip() or "unknown"
                if waited >= seconds:
                    raise PipelineError(
                        f"Another run ({other}) is making {name} in ADC_HOME = {self.folder.parent} and has not ended"
                        f" within {seconds:.0f} s: start this run when it has ended, increase the workspace's"
                        " `wait_seconds`, or give this run an ADC_HOME of its own."
                    )
                if waited >= next_report:
                    report(f"Another run ({other}) is making {name}: waiting at most {seconds - waited:,.0f} s for it.")
                    next_report, pause = waited + pause, min(2 * pause, MOST_SECONDS_BETWEEN_REPORTS)
                time.sleep(min(SECONDS_BETWEEN_ATTEMPTS, seconds - waited))
            if other:
                waited = time.monotonic() - began
                report(f"The other run ({other}) has ended: this one goes on with {name} after {waited:,.0f} s.")
            # The holder's name is information only, so a failure to write it does not matter.
            with suppress(OSError):
                file.write_text(self.holder)
            self.held[name] = stack.pop_all()
