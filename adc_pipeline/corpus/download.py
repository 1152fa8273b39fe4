"""A corpus of ConvoKit's collection by name, through `convokit.download`, whole or not at all.

ConvoKit unpacks where it is told to, and remembers in the home directory what it has fetched and where; a
download that was killed, or deleted since, would mislead it. So each attempt gets a folder of its own, and
the corpus moves to `downloads/NAME` in one step when it is whole. What lies there is taken as it is: delete
the folder to fetch a newer version. ConvoKit prints the size only, so the progress is read from the disk.
"""

import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from time import time
from typing import Any

from adc_pipeline.engine import Report, reporting, unheard
from adc_pipeline.errors import PipelineError, is_disk_full

LINES = "utterances.jsonl"
# An attempt that has written nothing for so long was killed.
SECONDS_UNTIL_ABANDONED = 3600.0


def download(name: str, downloads: Path, report: Report = unheard) -> Path:
    """The folder of the corpus `name` below `downloads`, fetched if it is not there; `report` hears how far it is.

    Raises PipelineError for a name that ConvoKit does not know, and where the download fails; a second call
    begins that corpus anew and finds those that were finished.
    """
    target = downloads / name
    if (target / LINES).is_file():
        return target.resolve()
    downloads.mkdir(parents=True, exist_ok=True)
    remove_abandoned(downloads)
    attempt = Path(mkdtemp(prefix=f".{name}-", dir=downloads))
    try:
        with telling(name, attempt, report):
            fetch(name, attempt)
        found = sorted(attempt.rglob(LINES))
        if len(found) != 1:
            raise PipelineError(
                f"What ConvoKit has by the name {name} holds {len(found)} files named {LINES}, and a corpus has one:"
                " give the setting corpus (or ADC_CORPUS) the name of a corpus, such as reddit-corpus-small."
            )
        try:
            found[0].parent.rename(target)
        except OSError:
            # Another run may have been faster.
            if not (target / LINES).is_file():
                raise
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return target.resolve()


def fetch(name: str, folder: Path) -> None:
    import convokit

    try:
        convokit.download(name, verbose=False, data_dir=str(folder))
    except (KeyError, IndexError) as error:
        raise PipelineError(
            f"ConvoKit knows no corpus {name}: give the setting corpus (or ADC_CORPUS) one of its names, such as"
            " reddit-corpus-small, or a path."
        ) from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        if is_disk_full(error):
            raise
        raise PipelineError(
            f"The corpus {name} could not be downloaded ({type(error).__name__}): check the name and the network,"
            " or give the setting corpus (or ADC_CORPUS) the path of a ConvoKit folder on disk."
        ) from error


class Sizes(urllib.request.BaseHandler):
    """Notes how long the answers are that `urllib` gets; the longest is the corpus."""

    def __init__(self) -> None:
        self.total = 0

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        length = response.headers.get("Content-Length") or ""
        if length.isdecimal():
            self.total = max(self.total, int(length))
        return response

    https_response = http_response


@contextmanager
def telling(name: str, folder: Path, report: Report) -> Iterator[None]:
    """Tell `report` every few seconds how much of the corpus has come to `folder`."""
    sizes = Sizes()
    urllib.request.install_opener(urllib.request.build_opener(sizes))

    def progress() -> str:
        archives = [path for path in folder.iterdir() if path.is_file()]
        come = sum(path.stat().st_size for path in archives)
        of = f" of {sizes.total / 1e6:,.1f} MB" if sizes.total else " MB"
        return f"{name}: {come / 1e6:,.1f}{of} downloaded"

    try:
        with reporting(progress, report):
            yield
        report(progress())
    finally:
        urllib.request.install_opener(urllib.request.build_opener())


def remove_abandoned(downloads: Path) -> None:
    """Remove what killed attempts have left, and nothing that another run may still be writing."""
    for attempt in downloads.glob(".*-*"):
        written = [path.lstat().st_mtime for path in (attempt, *attempt.rglob("*"))]
        if attempt.is_dir() and max(written) < time() - SECONDS_UNTIL_ABANDONED:
            shutil.rmtree(attempt, ignore_errors=True)
