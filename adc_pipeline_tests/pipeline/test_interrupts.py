"""A signal ends a run as cancelled in Dagster, by whichever command the run was started. 3 s."""

import os
import signal
from contextlib import suppress
from typing import Any

import dagster as dg
import pytest
from pydantic import PrivateAttr

from adc_pipeline.defs.interrupts import RECEIVED, interrupts_cancel, raise_again, remembered


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


@dg.op(config_schema=int)
def end(context: dg.OpExecutionContext, listening: Listening) -> None:
    """Send a signal to this process, or raise an error for 0."""
    if not context.op_config:
        raise RuntimeError("by itself")
    os.kill(os.getpid(), context.op_config)


@dg.job(resource_defs={"listening": Listening()})
def ending() -> None:
    end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, 0])
def test_a_signal_during_a_step_cancels_the_run_and_an_error_fails_it(number: int) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with dg.DagsterInstance.ephemeral() as instance:
        run_config = {"ops": {"end": {"config": int(number)}}}
        done = ending.execute_in_process(run_config, instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert run.status is (dg.DagsterRunStatus.CANCELED if number else dg.DagsterRunStatus.FAILURE)
        failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert len(failures) == (0 if number else 1)
    assert signal.getsignal(signal.SIGHUP) is before


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
