"""Identify a run's process, so that other processes can check whether it is still running.

A process is identified by host, boot, process id and start time, since the operating system reuses process ids, and a
reboot starts them again. The start time is counted in ticks since the boot, so changes of the clock do not affect it.
Linux only: without /proc no process is ever reported as ended.
"""

import os
import socket
from pathlib import Path

PROC = Path("/proc")


def this_process() -> str:
    """Return the identity of the calling process: "HOST BOOT PID START"."""
    return f"{socket.gethostname()} {boot_id()} {os.getpid()} {start_time(os.getpid()) or '?'}"


def has_ended(identity: str) -> bool:
    """Return whether a process has certainly ended: it ran on this host, and is no longer there."""
    if identity.count(" ") != 3:
        return False
    host, boot, pid, start = identity.split(" ")
    if host != socket.gethostname() or "?" in (boot, start):
        return False
    return boot != boot_id() or start_time(int(pid)) != start


def boot_id() -> str:
    """Return the kernel's id of the current boot, or "?" if it is unknown."""
    file = PROC / "sys" / "kernel" / "random" / "boot_id"
    return file.read_text().strip() if file.exists() else "?"


def start_time(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot; None if there is no such process or it is a zombie."""
    try:
        # The second field is the program's name in brackets, and may contain brackets itself.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start = fields[0], fields[19]
    return None if state in ("Z", "X") else start
