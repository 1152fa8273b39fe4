"""A signal ends a run as cancelled in Dagster, by whichever command the run was started. 3 s."""

import os
import signal
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from pydantic import PrivateAttr

from adc_pipeline.defs.frame import refuse_ended_run
from adc_pipeline.defs.interrupts import (
    RECEIVED,
    WAKEUP,
    interrupted_by_signals,
    interrupts_cancel,
    raise_again,
    remembered,
)
from adc_pipeline.defs.sentence_failure import Cancelled


class Listening(dg.ConfigurableResource):
    """Listens for as long as the run lasts."""

    _held: list[Any] = PrivateAttr(default_factory=list)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        assert context.instance is not None
        assert context.run is not None
        self._held.append(interrupts_cancel(context.instance, context.run.run_id))
        self._held[0].__enter__()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._held[0].__exit__(None, None, None)


@dg.op(config_schema={"number": int, "swallowed": bool})
def end(context: dg.OpExecutionContext, listening: Listening) -> None:
    """Send a signal to this process, or raise an error for 0."""
    if not context.op_config["number"]:
        raise RuntimeError("by itself")
    if context.op_config["swallowed"]:
        query(context.op_config["number"])
    os.kill(os.getpid(), context.op_config["number"])


@dg.job(resource_defs={"listening": Listening()})
def ending() -> None:
    end()


@pytest.mark.parametrize(
    ("number", "swallowed"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        # As in a check, whose step has no frame that remembers signals.
        (signal.SIGTERM, True),
        (0, False),
    ],
)
def test_a_signal_during_a_step_cancels_the_run_and_an_error_fails_it(number: int, swallowed: bool) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with dg.DagsterInstance.ephemeral() as instance:
        run_config = {"ops": {"end": {"config": {"number": int(number), "swallowed": swallowed}}}}
        done = ending.execute_in_process(run_config, instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert run.status is (dg.DagsterRunStatus.CANCELED if number else dg.DagsterRunStatus.FAILURE)
        failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert len(failures) == (0 if number else 1)
    assert signal.getsignal(signal.SIGHUP) is before
    assert not WAKEUP


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with dg.DagsterInstance.ephemeral() as instance, interrupts_cancel(instance, "a run"):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def query(number: int) -> None:
    """Be interrupted, and raise an error of one's own, as DuckDB does."""
    with suppress(BaseException):
        os.kill(os.getpid(), number)
    raise RuntimeError("Query interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_is_raised_again(number: int) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(number, interrupt)
    try:
        with remembered():
            raise_again()
            # As in some imports.
            with suppress(BaseException):
                os.kill(os.getpid(), number)
            with pytest.raises(KeyboardInterrupt):
                raise_again()
        assert not RECEIVED
        assert signal.getsignal(number) is interrupt
        with pytest.raises(KeyboardInterrupt), remembered():
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt), remembered():
            query(number)
        with pytest.raises(RuntimeError), remembered():
            raise RuntimeError("by itself")
        raise_again()
    finally:
        signal.signal(number, before)


def test_a_second_signal_does_not_disturb_the_end_of_an_interrupted_step() -> None:
    """The step's MLflow run ends as killed meanwhile."""
    recorded = []

    def step() -> None:
        with remembered():
            try:
                # As in some imports, which end without the exception.
                with interrupted_by_signals(), suppress(BaseException):
                    os.kill(os.getpid(), signal.SIGINT)
            except BaseException as error:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                recorded.append(type(error))
                raise

    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            step()
        assert recorded == [KeyboardInterrupt]
        # The next step is interrupted by its own signals only.
        with remembered(), interrupted_by_signals():
            pass
        with pytest.raises(KeyboardInterrupt), remembered():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted:
    """Is interrupted in its finalizer, whose exceptions Python prints and forgets."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_in_a_finalizer_ends_the_step_and_prints_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), remembered(), interrupted_by_signals():
            Interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not printed
    assert sys.unraisablehook == printed.append


@pytest.mark.parametrize("status", ["STARTED", "CANCELING", "CANCELED", "FAILURE", "SUCCESS"])
def test_a_run_that_dagster_has_as_ended_makes_nothing_more(status: str) -> None:
    """*Force termination* reaches no process, which would go on and turn the cancelled run into a success."""
    run = dg.DagsterRun(job_name="adc", status=dg.DagsterRunStatus(status))
    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = SimpleNamespace(instance=instance, run=run)
        refuse_ended_run(context)
        instance.add_run(run)
        if not run.is_finished:
            refuse_ended_run(context)
            return
        with pytest.raises(Cancelled, match="marked as ended"):
            refuse_ended_run(context)
