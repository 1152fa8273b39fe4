"""The one error that a user is meant to read, and the one that every writer may meet."""

import errno
import socket


class PipelineError(Exception):
    """One sentence: what is wrong, which setting it comes from, and what to do about it.

    Names of files and values from outside may hold control characters, which would steer a terminal: they are
    escaped here, so that no caller has to think of it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class UnreachableError(PipelineError):
    """A fault of the network, which may be gone in a minute: the one kind that is worth another attempt."""


def is_network_fault(error: BaseException) -> bool:
    """Whether an error comes from a connection that failed, or from a server that cannot answer at the moment."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        if isinstance(cause, socket.gaierror | ConnectionError | TimeoutError) or status == 429 or status >= 500:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def printable(text: str) -> str:
    """Return a text with each control character, line break and broken code point spelled as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the error's type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def is_disk_full(error: BaseException) -> bool:
    """Whether the operating system, DuckDB or SQLite says that there is no room left."""
    said = str(error)
    full = "No space left on device" in said or "disk is full" in said
    return full or getattr(error, "errno", None) == errno.ENOSPC
