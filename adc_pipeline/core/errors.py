"""The errors that are written for users, and functions that recognise common causes of other errors."""

import difflib
import errno
import socket
from collections.abc import Iterable

from adc_pipeline.core.secrets import masked
from adc_pipeline.core.terminal import printable


class PipelineError(Exception):
    """An error whose message is one sentence: what is wrong, which setting is the cause, and what to do.

    Names of files and values from outside may hold control characters, which would steer a terminal, and secrets: the
    first are escaped here and the second hidden, so that no caller has to think of it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(masked(sentence), kept=""))


class UnreachableError(PipelineError):
    """A network fault, which may be temporary; the only error that is retried."""


class DamagedError(PipelineError):
    """A file that the pipeline wrote is not as it was written, so that the files beside it are worth a check."""


def is_network_fault(error: BaseException) -> bool:
    """Return whether an error or one of its causes is a failed connection, or a server's status 429 or 5xx."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        if isinstance(cause, socket.gaierror | ConnectionError | TimeoutError) or status == 429 or status >= 500:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Return a question for the most similar of some names, to be put behind a wrong one; empty if none is similar."""
    in_lower_case = {each.lower(): each for each in names}
    close = difflib.get_close_matches(str(name).lower(), list(in_lower_case), n=1)
    return f" (did you mean {in_lower_case[close[0]]}?)" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the error's type if it has none.

    A line that ends in a colon announces the next one, which is returned with it.
    """
    first, *rest = (str(error).strip() or type(error).__name__).splitlines()
    following = next((line.strip() for line in rest if line.strip()), "")
    first = first.rstrip()
    return (f"{first} {following}" if first.endswith(":") and following else first).rstrip(".,")


def is_disk_full(error: BaseException) -> bool:
    """Return whether the operating system, DuckDB or SQLite reports a full disk, or that a user's quota is used up."""
    message = str(error)
    full = any(each in message for each in ("No space left on device", "Disk quota exceeded", "disk is full"))
    return full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def limit_of_system(error: BaseException) -> str:
    """Return the sentence for an error that a limit on this process causes, such as `ulimit -v`; empty for others."""
    reached = {
        errno.ENOMEM: "memory (`ulimit -v`, or the container's limit)",
        errno.EAGAIN: "threads or processes (`ulimit -u`, `ulimit -v`, or the container's limit)",
        errno.EFBIG: "the size of a file (`ulimit -f`)",
        errno.EMFILE: "open files (`ulimit -n`)",
    }
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or "bad_alloc" in text:
        number = errno.ENOMEM
    elif "can't start new thread" in text:
        number = errno.EAGAIN
    if number not in reached:
        return ""
    return (
        f"The system refused this process what it needs ({first_line(error)}), which a limit on {reached[number]}"
        " causes: raise the limit, or set fewer `threads` and a lower `memory_limit` of the resource workspace."
    )
