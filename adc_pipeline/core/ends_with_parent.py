"""Run Python so that it is told to end when the process that started it ends.

`python -m adc_pipeline.core.ends_with_parent ARGUMENTS` runs `python ARGUMENTS` so.
Neither `accelerate launch` nor Dagster's steps nor Ray's workers forward signals, and a killed one cannot. Linux only.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1


def end_with_parent() -> None:
    """Have this process, and a program that replaces it, get SIGTERM when the process that started it ends."""
    if sys.platform == "linux":
        # A process inherits what the one that started it ignores, and would then miss the end of its launcher.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    # What Ray's workers ignore or block, the processes that they start would, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
