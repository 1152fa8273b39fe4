"""Folders that are whole or not there: written beside their place, then renamed into it.

A process that is killed half-way leaves `NAME.partial`, which no reader looks at and which the next
writer of the same folder clears away. The rename costs microseconds.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it takes the name `folder` when the block ends well."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
