"""Handlers of the signals that ask a process to end: Ctrl+C, `kill` or a container's stop, and a closed terminal.

What a process ignores, as SIGHUP under `nohup`, it goes on ignoring. Python sets handlers in the main thread only;
elsewhere nothing is set, and the main thread's handlers stay.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The exit status of a command that such a signal ended, as shells give it for SIGINT.
CANCELLED = 130

Handler = Callable[[int, FrameType | None], Any]


def handle(handler: Handler, numbers: Sequence[signal.Signals] = SIGNALS) -> dict[signal.Signals, Any]:
    """Set the handler of the signals that are not ignored; return the handlers that were in place."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in taken}


def restore(handlers: Mapping[signal.Signals, Any]) -> None:
    """Set the handlers that `handle` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def handled(handler: Handler, numbers: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Set the handler, as `handle` does, for the block."""
    before = handle(handler, numbers)
    try:
        yield
    finally:
        restore(before)
