"""Forward what this package logs to another place, such as the log of a run, while a block runs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Forward(logging.Handler):
    """Passes each record to a function."""

    def __init__(self, receive: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        self.receive(record)


@contextmanager
def forwarded(receive: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """Pass the records of this package's loggers to `receive` while the block runs."""
    handler = Forward(receive)
    logger = logging.getLogger("adc_pipeline")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
