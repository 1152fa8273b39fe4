"""Write the files of a dataset in a thread while the run makes another asset.

Much of a dataset's step is the work of one core: packing the file of a split, drawing a picture, asking MLflow. The
other core writes the files of the datasets that come next, and their steps do the rest. It takes one dataset at a time,
since each has a DuckDB of its own with all of the memory limit.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import Counts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

THREAD = ThreadPoolExecutor(1)
SECONDS_BETWEEN_INTERRUPTS = 0.05


class Begun(Protocol):
    """Work of a stage that was begun ahead of its step."""

    def interrupt(self) -> None:
        """Let the work end soon."""

    def close(self) -> None:
        """Wait for the end of the work, and remove what nobody has taken."""


class FilesAhead:
    """Files that the thread writes, or will write, into a folder of their own."""

    def __init__(
        self, write: Callable[[Path, Engine], Counts], folder: AbstractContextManager[Path], engine: Engine
    ) -> None:
        self._held = ExitStack()
        self._folder = self._held.enter_context(folder)
        self._in_use: list[DuckDBPyConnection] = []
        self._interrupted = False
        self._counts = THREAD.submit(write, self._folder, replace(engine, in_use=self._in_use))

    def take(self, to: Path) -> Counts | None:
        """Move the files to another folder, once they are written, and return their counts.

        None if the thread has not begun with them, or has failed: whoever asks writes them, or meets the same error.
        """
        if self._counts.cancel() or self._counts.exception() or not self._folder.exists():
            return None
        for path in self._folder.iterdir():
            shutil.move(path, to / path.name)
        self.close()
        return self._counts.result()

    def interrupt(self) -> None:
        """Do not begin what has not begun, and let `close` interrupt what has."""
        self._interrupted = True
        self._counts.cancel()

    def close(self) -> None:
        """Wait for the thread and remove the folder."""
        if self._interrupted:
            # Of several statements, each has to be interrupted.
            while not self._counts.done():
                for connection in list(self._in_use):
                    connection.interrupt()
                wait([self._counts], SECONDS_BETWEEN_INTERRUPTS)
        elif not self._counts.cancel():
            self._counts.exception()
        self._held.close()
