"""Servers as child processes that live and end together."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from adc_pipeline.core.errors import PipelineError

SECONDS_TO_START = 180.0
SECONDS_TO_END = 30.0
SECONDS_BETWEEN_LOOKS = 0.2


class Servers:
    """Processes of this Python that print to the file `log`; all are ended when the block ends."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Servers":
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_bytes(b"")
        return self

    def start(self, name: str, arguments: Sequence[str], **variables: str) -> None:
        """Start Python with these arguments, and these variables beside the environment's."""
        with self.log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                # They end with this process even if it is killed, and do not hold its ports.
                [sys.executable, "-m", "adc_pipeline.core.ends_with_parent", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # As in `definitions`: a file of the working directory is no module.
                env={**os.environ, "PYTHONSAFEPATH": "1", **variables},
                # Ctrl+C at a terminal reaches this process alone, which ends the others in order.
                start_new_session=True,
            )

    def run_until(self, condition: Callable[[], bool], seconds: float = SECONDS_TO_START) -> None:
        """Wait for a condition; PipelineError if a server ends, or takes more than `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise PipelineError(f"{name} has ended (exit status {process.returncode}): see {self.log}.")
            if time.monotonic() > end:
                raise PipelineError(f"The servers have not started in {seconds:.0f} s: see {self.log}.")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + SECONDS_TO_END
        for process in self.processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# A proxy, such as a company's in HTTP_PROXY, does not know the servers of this machine.
WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(page: str) -> bool:
    """Return whether a web server of this machine answers, whatever it says."""
    try:
        with WITHOUT_PROXY.open(page, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def listens(path: Path) -> bool:
    """Return whether a server listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
