"""The one error that a user is meant to read, and the one that every writer may meet."""

import errno


class PipelineError(Exception):
    """One sentence: what is wrong, which setting it comes from, and what to do about it."""


class UnreachableError(PipelineError):
    """A fault of the network, which may be gone in a minute: the one kind that is worth another attempt."""


def is_disk_full(error: BaseException) -> bool:
    """Whether the operating system, DuckDB or SQLite says that there is no room left."""
    said = str(error)
    full = "No space left on device" in said or "disk is full" in said
    return full or getattr(error, "errno", None) == errno.ENOSPC
