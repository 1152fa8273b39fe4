"""Write a folder or a file in one step: readers see the old version, the new one, or none, never a half.

Both are written beside their place and then renamed into it, which costs microseconds. A process that is killed halfway
leaves a `.partial` folder, which no reader looks at and which the next writer of the same folder removes; or a file or
link with a name of `temporary`, which is no part of any content (`core.store.content`) and which a later writer
removes.
"""

import filecmp
import glob
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adc_pipeline.core.errors import PipelineError

# In the names of files that are being written.
MARK = ".partial-"
SECONDS_TO_WRITE = 24 * 3600


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it replaces `folder` when the block ends without an error."""
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    give_usual_mode(*partial.rglob("*"))
    replace_folder(partial, folder)


def give_usual_mode(*paths: Path) -> None:
    """Let those use files whom the umask lets use a new file: a home may be shared by a group.

    safetensors keeps its files to this user (600), and SQLite lets nobody else write (644), whatever the umask.
    """
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    if not files:
        return
    # The umask cannot be asked for without changing it.
    probe = temporary(files[0].with_name("mode"))
    probe.touch()
    usual = probe.stat().st_mode
    probe.unlink()
    for path in files:
        mode = path.stat().st_mode
        # A link to a file of an earlier version may be another user's.
        if mode | usual != mode:
            with suppress(PermissionError):
                path.chmod(mode | usual)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file replaces `path` when the block ends without an error.

    Two processes, of two machines too, may write the same file. Raise PipelineError if a folder is
    there, which a rename cannot replace.
    """
    if path.is_dir() and not path.is_symlink():
        raise PipelineError(f"{path} is a folder where a file belongs: move it away.")
    partial = temporary(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """Return an unused name beside `path`, to be renamed to it; remove what writers that were killed have left of it.

    Whether another writer still lives cannot be known where machines share a folder, but none takes so long.
    """
    begin = f".{path.stem}{MARK}"
    for left in path.parent.glob(f"{glob.escape(begin)}*"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > SECONDS_TO_WRITE:
                left.unlink()
    return path.with_name(f"{begin}{os.urandom(4).hex()}{path.suffix}")


def is_temporary(path: Path) -> bool:
    """Return whether a file or link has a name of `temporary`."""
    return path.name.startswith(".") and MARK in path.name


def partial_of(folder: Path) -> Path:
    """Return where a folder is written until it is complete."""
    return folder.with_name(f"{folder.name}.partial")


def replace_folder(partial: Path, folder: Path) -> None:
    """Rename a complete folder to its place, and remove what is there."""
    if folder.exists():
        remove_folder(folder)
    partial.rename(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step: a reader, or a rerun after this process was killed, finds all of it or nothing.

    What a killed process has left is removed with the next folder of this name.
    """
    doomed = partial_of(folder.with_name(f"{folder.name}.removed"))
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def replace_by_link(copy: Path, original: Path) -> None:
    """Make a copy of a file a hard link to the original, if both have the same content and are on one disk."""
    if copy.samefile(original) or not filecmp.cmp(copy, original, shallow=False):
        return
    # Another disk, or a file system without hard links.
    with suppress(OSError), atomic_file(copy) as partial:
        partial.hardlink_to(original)
