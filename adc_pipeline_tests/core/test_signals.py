"""Tests of the handlers of signals that ask a process to end."""

import os
import signal
import threading

import pytest

from adc_pipeline.core.signals import SIGNALS, handled


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_block_is_handled_and_the_handler_restored(number: signal.Signals) -> None:
    received: list[int] = []
    before = signal.getsignal(number)
    with handled(lambda found, _: received.append(found)):
        os.kill(os.getpid(), number)
    assert (received, signal.getsignal(number)) == ([number], before)


def test_what_is_ignored_stays_ignored() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(lambda found, _: received.append(found)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert (received, signal.getsignal(signal.SIGHUP)) == ([], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_set() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    inside: dict[signal.Signals, object] = {}

    def block() -> None:
        with handled(signal.default_int_handler):
            inside.update({number: signal.getsignal(number) for number in SIGNALS})

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert inside == before
