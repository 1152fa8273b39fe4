"""What a run prints and shows of itself: no event of Dagster's machinery, and of a failure the sentence.

Dagster's default console shows every event of every step, and repeats a failure's stack trace for the step and for the
run. Its log gets a red row for each step that did not run because an earlier one failed. The default here is level
INFO, the sentence of a failure that was raised for people, and a grey row for each such step. An unexpected error keeps
its stack trace, and `loggers: {console: {config: {log_level: DEBUG}}}` in a run's configuration shows every event.
"""

import logging
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster import colored_console_logger

# The name of Dagster's default logger, which a run configuration may set.
CONSOLE = "console"
STACK = "\n\nStack Trace:\n"
RAISED_FOR_PEOPLE = f"\n{dg.Failure.__module__}.{dg.Failure.__name__}: "
NOT_EXECUTED = "Dependencies for step "


def without_stack(record: logging.LogRecord) -> bool:
    """Cut the stack trace off the message of a failure that the pipeline explains in a sentence."""
    text = record.getMessage()
    head, found, _ = text.partition(STACK)
    if found and RAISED_FOR_PEOPLE in head:
        record.msg, record.args = head, ()
    return True


@dg.logger(
    colored_console_logger.config_schema, description="Prints what people can act on; the default level is INFO."
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger of the terminal: Dagster's, without stack traces of failures that a sentence explains."""
    logger = colored_console_logger.logger_fn(context)
    logger.addFilter(without_stack)
    return logger


def no_error_for_steps_not_executed() -> None:
    """Log that a step did not run, since an earlier one failed, as DEBUG; Dagster logs it as an error."""
    before = logging.getLogRecordFactory()
    if getattr(before, "__module__", "") != __name__:
        logging.setLogRecordFactory(demoting(before))


def demoting(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Return a factory of log records that lowers the level of Dagster's messages on steps that did not run."""

    def record(name: str, level: int, *arguments: Any, **keywords: Any) -> logging.LogRecord:
        made = make(name, level, *arguments, **keywords)
        if name == "dagster" and level == logging.ERROR and str(made.msg).startswith(NOT_EXECUTED):
            made.levelno, made.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return made

    return record
