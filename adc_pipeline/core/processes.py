"""Which process a run is, so that another can tell whether it still runs.

A process is named by machine, boot, number and start: numbers are given again, and after a restart of the machine
they mean others. The start is counted in ticks since the boot, which no change of the clock moves. Linux; where
there is no /proc, nothing is said of any process.
"""

import os
import socket
from pathlib import Path

PROC = Path("/proc")


def this_process() -> str:
    """The name of the process that asks: machine, boot, number and start."""
    return f"{socket.gethostname()} {boot()} {os.getpid()} {started(os.getpid()) or '?'}"


def has_ended(name: str) -> bool:
    """Whether the process of this name has certainly ended: it was on this machine, and is not there any more."""
    if name.count(" ") != 3:
        return False
    host, when, number, start = name.split(" ")
    if host != socket.gethostname() or "?" in (when, start):
        return False
    return when != boot() or started(int(number)) != start


def boot() -> str:
    """Which of its starts this machine is in."""
    file = PROC / "sys" / "kernel" / "random" / "boot_id"
    return file.read_text().strip() if file.exists() else "?"


def started(process: int) -> str | None:
    """When a process began, in ticks since the boot; None where it is not, or is only waiting to be collected."""
    try:
        # The name of the program stands in brackets and may itself hold some.
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start = fields[0], fields[19]
    return None if state in ("Z", "X") else start
