"""Ctrl+C, SIGTERM and a closed terminal end a run as cancelled, whichever command started it.

Dagster reports a run as cancelled only if somebody requested that beforehand, as *Terminate* in its pages does, and
as failed otherwise. A listener therefore makes that request at the moment when a step is interrupted. It also maps
SIGHUP, which by default kills the process and leaves a run that never ends, to the handler of SIGINT that is in place
at that moment.

Dagster's handler raises an exception wherever the step is. A library that is being imported may swallow it, as torch's
imports did 1.5 s after the start of `base_model`, and the run would go on for hours; DuckDB raises an error of its own
("Query interrupted"), and the run would count as failed. So a signal is remembered, and raised again in place of
another error, or at the next place where the step reports. One that arrives in a finalizer would also be printed with
its stack trace. Steps of checks have no such frame; the process's wakeup file descriptor tells the listener that a
signal came. Once an interrupted step ends, further signals are ignored for some seconds, so that an impatient second
Ctrl+C does not leave the run in MLflow unfinished.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import dagster as dg

from adc_pipeline.core.signals import SIGNALS

# How long further signals are ignored while the end of an interrupted step is recorded in MLflow and Dagster.
SECONDS_TO_RECORD = 15.0
# The signals of the current step, and when its interrupted work ended; signals belong to the process, and so do these.
RECEIVED: list[int] = []
ENDING: list[float] = []
# The end of a pipe that Python writes each signal's number to while a run executes in this process, and what it gave.
WAKEUP: list[int] = []
WOKEN: list[int] = []


def in_main_thread() -> bool:
    """Return whether this is the only thread in which Python runs and sets handlers of signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def remembered() -> Iterator[None]:
    """Remember the signals that arrive in the block, a step; their handlers run as before."""
    if not in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: FrameType | None) -> None:
        RECEIVED.append(number)
        found = before[signal.Signals(number)]
        if callable(found) and not (ENDING and time.monotonic() - ENDING[-1] < SECONDS_TO_RECORD):
            found(number, frame)

    taken = [number for number, found in before.items() if callable(found)]
    for number in taken:
        signal.signal(number, handler)
    print_unraisable = sys.unraisablehook
    sys.unraisablehook = lambda found: None if RECEIVED else print_unraisable(found)
    try:
        if woken():
            # It interrupted an earlier step, a check, which failed instead.
            RECEIVED.append(signal.SIGINT)
            raise_again()
        yield
    except Exception:
        raise_again()
        raise
    finally:
        RECEIVED.clear()
        ENDING.clear()
        sys.unraisablehook = print_unraisable
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """End the block, which is within `remembered`, as interrupted if a signal came, whatever it made of that."""
    try:
        yield
        raise_again()
    except Exception:
        raise_again()
        raise
    finally:
        if RECEIVED:
            ENDING.append(time.monotonic())


def raise_again() -> None:
    """Call the handler of a signal again whose exception was swallowed."""
    if RECEIVED and in_main_thread():
        number = RECEIVED.pop()
        RECEIVED.clear()
        ENDING.clear()
        os.kill(os.getpid(), number)


def woken() -> bool:
    """Return whether a signal has come since the run began, also in a step that does not remember it."""
    with suppress(BlockingIOError):
        WOKEN.extend(number for end in WAKEUP for number in os.read(end, 4096) if number in SIGNALS)
    return bool(WOKEN)


@contextmanager
def interrupts_cancel(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Report the run as cancelled if a signal interrupts one of its steps, and treat SIGHUP as such a signal.

    `instance` must be the one that executes the run. A SIGHUP that is ignored, as under `nohup`, stays ignored.
    """

    def listen(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or not event.is_step_failure:
            return
        source = event.step_failure_data.error_source
        run = instance.get_run_by_id(run_id)
        if run is None or not (woken() or (source is not None and source.value == "INTERRUPT")):
            return
        if not run.is_finished and run.status is not dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceling(run, "A signal interrupted the run.")

    instance.add_event_listener(run_id, listen)
    # Python sets handlers in the main thread only.
    if not in_main_thread():
        yield
        return
    hangup = signal.getsignal(signal.SIGHUP)
    if hangup is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    WAKEUP.append(read_end)
    try:
        yield
    finally:
        WAKEUP.remove(read_end)
        WOKEN.clear()
        signal.set_wakeup_fd(wakeup)
        os.close(read_end)
        os.close(write_end)
        signal.signal(signal.SIGHUP, hangup)
