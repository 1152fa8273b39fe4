"""What a run prints and shows of itself: no event of Dagster's machinery, and of a failure the sentence.

Secrets are hidden in every line that is logged, those of libraries included (`core.secrets`), and control characters,
as of file names, are escaped.

Dagster's default console shows every event of every step, and its log gets a red row for each step that did not run
because an earlier one failed. The default here is level INFO, and a grey row (DEBUG), which Dagster's page hides, for
each such step. A failure that the pipeline explains has no stack trace (`sentence_failure.py`); an unexpected error
keeps its own, and
`loggers: {console: {config: {log_level: DEBUG}}}` in a run's configuration prints every event.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from adc_pipeline.core.secrets import masked
from adc_pipeline.core.terminal import without_controls

# The name of Dagster's default logger, which a run configuration may set.
CONSOLE = "console"
# How Dagster's message on a step that did not run begins.
NOT_EXECUTED = "Dependencies for step "


def adjust_log_records() -> None:
    """Adjust each record that is logged in this process, by libraries too, as `adjusting` does."""
    before = logging.getLogRecordFactory()
    if getattr(before, "__module__", "") != __name__:
        logging.setLogRecordFactory(adjusting(before))


def adjusting(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Return a factory of log records without secrets and control characters.

    It lowers Dagster's messages on steps that did not run, since an earlier one failed, to DEBUG.
    """

    def record(name: str, level: int, *arguments: Any, **keywords: Any) -> logging.LogRecord:
        made = make(name, level, *arguments, **keywords)
        # A message that does not fit its arguments is reported when it is written.
        with suppress(TypeError, ValueError):
            message = made.getMessage()
            if (shown := without_controls(masked(message))) != message:
                made.msg, made.args = shown, None
        if name == "dagster" and str(made.msg).startswith(NOT_EXECUTED):
            made.levelno, made.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return made

    return record
