"""What a run prints and shows of itself: no event of Dagster's machinery, and of a failure the sentence.

Dagster's default console shows every event of every step, and its log gets a red row for each step that did not run
because an earlier one failed, and rows on its connection to the training process (`[pipes]`), about which nobody can do
anything. The default here is level INFO, and a grey row (DEBUG), which Dagster's page hides, for each of these. A
failure that the pipeline explains has no stack trace (`sentence_failure.py`); an unexpected error keeps its own, and
`loggers: {console: {config: {log_level: DEBUG}}}` in a run's configuration prints every event.
"""

import logging
from collections.abc import Callable
from typing import Any

# The name of Dagster's default logger, which a run configuration may set.
CONSOLE = "console"
# How Dagster's messages begin that are logged as DEBUG: on steps that did not run, and on the training process.
MACHINERY = ("Dependencies for step ", "[pipes] ")


def machinery_is_debug() -> None:
    """Log Dagster's messages on its own machinery as DEBUG."""
    before = logging.getLogRecordFactory()
    if getattr(before, "__module__", "") != __name__:
        logging.setLogRecordFactory(demoting(before))


def demoting(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Return a factory of log records that lowers the level of Dagster's messages on its machinery."""

    def record(name: str, level: int, *arguments: Any, **keywords: Any) -> logging.LogRecord:
        made = make(name, level, *arguments, **keywords)
        if name == "dagster" and str(made.msg).startswith(MACHINERY):
            made.levelno, made.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return made

    return record
