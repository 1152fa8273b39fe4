"""Links and locks of the artefact store: atomic on a local file system, and relative, so that a home can be moved."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adc_pipeline.core.atomic import temporary
from adc_pipeline.core.errors import PipelineError

# From this number of files on, one flush of everything costs less than one of each (2.5 ms).
MANY_FILES = 200


def sync_files(folder: Path) -> None:
    """Have all files below a folder reach the disk; a rename may survive a power failure that they do not."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if len(files) >= MANY_FILES:
        os.sync()
        return
    for path in files:
        sync(path)


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def relative(link: Path, target: Path) -> Path:
    """Return the content of a relative link, which stays valid when ADC_HOME is moved."""
    return Path(os.path.relpath(target, link.parent))


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target` by an atomic rename.

    Raises PipelineError if a folder is there, which a rename cannot replace and which may be somebody's only copy.
    """
    if link.is_dir() and not link.is_symlink():
        raise PipelineError(
            f"{link} is a folder where a link to {target} belongs, as after a copy that followed links: move it away,"
            " or copy ADC_HOME again with its links (cp -a)."
        )
    new = temporary(link)
    new.symlink_to(relative(link, target))
    try:
        new.replace(link)
    except OSError:
        new.unlink()
        raise


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a file lock on a file or folder for the block; yield whether it was free, which `wait` ensures.

    The operating system releases the lock when the process ends, however it ends.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(handle)
