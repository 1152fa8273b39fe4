"""The errors that are written for users, and functions that recognise common causes of other errors."""

import difflib
import errno
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator

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
    for cause in causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        if isinstance(cause, socket.gaierror | ConnectionError | TimeoutError) or status == 429 or status >= 500:
            return True
    return False


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; SQLAlchemy's errors have that of the driver inside."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__ or cause.__context__


def did_you_mean(name: object, names: Iterable[str], similarity: float = 0.6) -> str:
    """Return a question for the most similar of some names, to be put behind a wrong one; empty if none is similar."""
    in_lower_case = {each.lower(): each for each in names}
    close = difflib.get_close_matches(str(name).lower(), list(in_lower_case), n=1, cutoff=similarity)
    return f" (did you mean {in_lower_case[close[0]]}?)" if close else ""


# DuckDB passes on what failed in a thread of its own as JSON.
OF_A_THREAD = re.compile(r'\{"exception_type":.*"exception_message":("(?:[^"\\]|\\.)+")')


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the error's type if it has none.

    A line that ends in a colon announces the next one, which is returned with it.
    """
    text = str(error).strip() or type(error).__name__
    inner = OF_A_THREAD.search(text)
    first, *rest = (json.loads(inner[1]) if inner else text).splitlines()
    following = next((line.strip() for line in rest if line.strip()), "")
    first = first.rstrip()
    return (f"{first} {following}" if first.endswith(":") and following else first).rstrip(".,")


# What to do about what the system answers, where neither the place nor the user's rights are the cause.
REMEDIES = {
    errno.EIO: "check the disk, of which the system's log says more",
    errno.EROFS: "mount the disk for writing, or name a place on another one",
    errno.ESTALE: "mount the disk again",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room, or have this user's quota raised",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENAMETOOLONG: "shorten the path",
}
# What libraries repeat of the system's answer to a write where their error has no number; SQLite has words of its own
# for a full disk. The length of a path is chosen by whoever names it, and no fault of the disk.
TOLD = {os.strerror(number): number for number in {*REMEDIES, errno.ENOMEM} - {errno.ENAMETOOLONG}}
TOLD["disk is full"] = errno.ENOSPC


def system_number(error: BaseException) -> int:
    """Return the number of what the operating system answered, by the error or by its text; 0 if neither says it."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    message = str(error)
    return next((number for words, number in TOLD.items() if words in message), 0)


def is_refused_by_system(error: BaseException) -> bool:
    """Return whether a disk, a quota or a limit of this process is the cause, and not what was read or written."""
    return system_number(error) in TOLD.values()


def is_disk_full(error: BaseException) -> bool:
    """Return whether the operating system, DuckDB or SQLite reports a full disk, or that a user's quota is used up."""
    return system_number(error) in (errno.ENOSPC, errno.EDQUOT)


def limit_of_system(error: BaseException) -> str:
    """Return the sentence for an error that a limit on this process causes, such as `ulimit -v`; empty for others."""
    less = "raise the limit, or set fewer `threads` and a lower `memory_limit` of the resource workspace"
    reached = {
        errno.ENOMEM: ("memory (`ulimit -v`, or the container's limit)", less),
        errno.EAGAIN: ("threads or processes (`ulimit -u`, `ulimit -v`, or the container's limit)", less),
        errno.EFBIG: ("the size of a file (`ulimit -f`)", "raise the limit, or run it without"),
        errno.EMFILE: ("open files (`ulimit -n`)", less),
    }
    text = str(error)
    number = system_number(error)
    if isinstance(error, MemoryError) or "bad_alloc" in text:
        number = errno.ENOMEM
    elif "can't start new thread" in text:
        number = errno.EAGAIN
    if number not in reached:
        return ""
    limit, remedy = reached[number]
    refused = f"The system refused this process what it needs ({first_line(error)})"
    return f"{refused}, which a limit on {limit} causes: {remedy}."
