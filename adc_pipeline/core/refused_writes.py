"""Say why the system does not take what a library writes, where the library's error has no file or no cause in it.

SQLite reports a read-only disk, a full one and a limit on the size of files alike, PyTorch and NumPy only that less was
written than asked for. A small file beside it tells the cause.
"""

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from adc_pipeline.core.atomic import temporary
from adc_pipeline.core.errors import REMEDIES, system_number

# More than a disk with nothing left takes.
PROBE = 1 << 16
CUT_SHORT = ("PytorchStreamWriter", "unexpected pos", "iostream error", "requested and")


def refused_write(error: BaseException, folder: Path) -> int:
    """Return the number of what the system answered to a library that writes in a folder; 0 if it is unknown."""
    return system_number(error) or (answer_to_write(folder) if is_cut_short(error) else 0)


def is_cut_short(error: BaseException) -> bool:
    """Return whether PyTorch or NumPy could not write all of a file; they raise one of these without the cause."""
    return isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in CUT_SHORT)


def reason(number: int) -> str:
    """Return what the system answered and what to do, as the end of a sentence.

    Empty where the place or the user's rights may be the cause.
    """
    return f"({os.strerror(number)}): {REMEDIES[number]}" if number in REMEDIES else ""


def answer_to_write(folder: Path) -> int:
    """Return the number of the error with which the system refuses a new file in a folder; 0 if it takes it.

    A limit on the size of files is one, since it was not this small file that was refused.
    """
    probe = temporary(folder / "probe")
    try:
        with probe.open("wb") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or 0
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return 0 if limit == resource.RLIM_INFINITY else errno.EFBIG
