"""One run at a time makes an asset in one ADC_HOME, until the end of the run.

Stored artefacts are whole whoever writes them; but a run that ranks what another has just read from a different
corpus would make something that nobody asked for. So a run keeps what it has made for itself until it ends:
`ADC_HOME/claims/ASSET` is locked for that time, and says by whom. The operating system lets go of a lock when its
process ends, however it ends, so a killed run never stands in the way of the next.

Nothing can wait for ever: a run that meets a claim waits a set time, says so, and is then refused. Two that wait
for each other are both refused.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from adc_pipeline.core.artefacts import locked
from adc_pipeline.core.errors import PipelineError

SECONDS_BETWEEN_ATTEMPTS = 0.2
SECONDS_BETWEEN_REPORTS = 5.0


class Claims:
    """What one run has claimed; lets go of all of it when the block ends."""

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
        """Claim an asset; PipelineError where another run has it for longer than `seconds`."""
        if name in self.held:
            return
        file = self.folder / name.replace("/", "%")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        began, said = time.monotonic(), -SECONDS_BETWEEN_REPORTS
        with ExitStack() as stack:
            while not stack.enter_context(locked(file)):
                stack.close()
                waited = time.monotonic() - began
                other = file.read_text().strip() or "it has not said which"
                if waited >= seconds:
                    raise PipelineError(
                        f"Another run ({other}) makes {name} in ADC_HOME = {self.folder.parent}, and has not ended in"
                        f" {seconds:.0f} s: start this one when it has, or raise the workspace's `wait_seconds`, or"
                        " give this run an ADC_HOME of its own."
                    )
                if waited - said >= SECONDS_BETWEEN_REPORTS:
                    report(
                        f"Another run ({other}) makes {name}: waiting for its end, {seconds - waited:.0f} s at most."
                    )
                    said = waited
                time.sleep(min(SECONDS_BETWEEN_ATTEMPTS, seconds - waited))
            # Only for others to read; that it cannot be written is no reason to stop.
            with suppress(OSError):
                file.write_text(self.holder)
            self.held[name] = stack.pop_all()
