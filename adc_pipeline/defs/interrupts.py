"""Ctrl+C, SIGTERM and a closed terminal end a run as cancelled, whichever command started it.

Dagster reports a run as cancelled only if somebody requested that beforehand, as *Terminate* in its pages does, and
as failed otherwise. A listener therefore makes that request at the moment when a step is interrupted. It also maps
SIGHUP, which by default kills the process and leaves a run that never ends, to the handler of SIGINT that is in place
at that moment.

Dagster's handler raises an exception wherever the step is. A library that is being imported may swallow it, as torch's
imports did 1.5 s after the start of `base_model`, and the run would go on for hours; DuckDB raises an error of its own
("Query interrupted"), and the run would count as failed. So a signal is remembered, and raised again in place of
another error, or at the next place where the step reports.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import dagster as dg

# The signals of the current step whose exception has not ended it; signals belong to the process, and so does this.
RECEIVED: list[int] = []


@contextmanager
def remembered() -> Iterator[None]:
    """Remember the signals that arrive in the block, for `raise_again`; their handlers run as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: FrameType | None) -> None:
        RECEIVED.append(number)
        found = before[signal.Signals(number)]
        if callable(found):
            found(number, frame)

    taken = [number for number, found in before.items() if callable(found)]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    except Exception:
        raise_again()
        raise
    finally:
        RECEIVED.clear()
        for number in taken:
            signal.signal(number, before[number])


def raise_again() -> None:
    """Call the handler of a signal again whose exception was swallowed."""
    if RECEIVED and threading.current_thread() is threading.main_thread():
        number = RECEIVED.pop()
        RECEIVED.clear()
        os.kill(os.getpid(), number)


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
        if source is None or source.value != "INTERRUPT" or run is None:
            return
        if not run.is_finished and run.status is not dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceling(run, "A signal interrupted the run.")

    instance.add_event_listener(run_id, listen)
    # Python sets handlers in the main thread only.
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    if free:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        if free:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
