"""A corpus of ConvoKit's collection by name, through `convokit.download`, whole or not at all.

ConvoKit unpacks where it is told to, and remembers in the home directory what it has fetched and where; a
download that was killed, or deleted since, would mislead it. So each attempt gets a folder of its own, and
the corpus moves to `downloads/NAME` in one step when it is whole; a later version to `downloads/NAME@VERSION`
beside it, since what was made of the earlier one still links there. Which version is published, ConvoKit's
configuration says (one request, 10 s at most); without a network, the newest that is here is taken.
ConvoKit prints the size of a download only, so the progress is read from the disk.
"""

import shutil
import urllib.request
import zipfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from adc_pipeline.core.artefacts import locked
from adc_pipeline.core.engine import Report, no_report, reporting
from adc_pipeline.core.errors import PipelineError, UnreachableError, is_disk_full

LINES = "utterances.jsonl"
# Beside the corpus, not part of it: the version that was published when it was fetched.
VERSION = ".version"
# Where `convokit.download` looks as well.
CONFIGURATION = "https://raw.githubusercontent.com/CornellNLP/ConvoKit/master/download_config.json"
SECONDS_FOR_CONFIGURATION = 10.0
FAMILIES = ("subreddit", "wikiconv", "supreme")


def download(name: str, downloads: Path, report: Report = no_report) -> Path:
    """The folder of the corpus `name` below `downloads`, fetched if it, or a newer version of it, is not there.

    `report` hears how far it is. Raises PipelineError for a name that ConvoKit does not know, and UnreachableError
    where the download fails; a second call begins that corpus anew and finds those that were finished.
    """
    newest = published_versions([name])[name]
    here = held(name, downloads)
    if here is not None:
        folder, version = here
        if version is None and newest is not None:
            # From before versions were noted: what is published now is the oldest it can be told from.
            (folder / VERSION).write_text(f"{newest}\n")
        if newest is None or version is None or version >= newest:
            return folder.resolve()
        report(f"{name}: version {newest} is published, and version {version} is here.")
    downloads.mkdir(parents=True, exist_ok=True)
    target = downloads / (name if here is None else f"{name}@{newest}")
    with ExitStack() as held_open:
        with locked(downloads, wait=True):
            remove_abandoned(downloads)
            attempt = Path(mkdtemp(prefix=f".{name}-", dir=downloads))
            held_open.callback(shutil.rmtree, attempt, ignore_errors=True)
            held_open.enter_context(locked(attempt))
        with telling(name, attempt, report):
            fetch(name, attempt)
        found = sorted(attempt.rglob(LINES))
        if len(found) != 1:
            raise PipelineError(
                f"What ConvoKit has by the name {name} holds {len(found)} files named {LINES}, and a corpus has one:"
                " give the setting corpus (or ADC_CORPUS) the name of a corpus, such as reddit-corpus-small."
            )
        if newest is not None:
            (found[0].parent / VERSION).write_text(f"{newest}\n")
        try:
            found[0].parent.rename(target)
        except OSError:
            # Another run may have been faster.
            if not (target / LINES).is_file():
                raise
    return target.resolve()


def held(name: str, downloads: Path) -> tuple[Path, int | None] | None:
    """The newest of the versions of a corpus that are whole in `downloads`, and which it is, if that was noted."""
    folders = [folder for folder in (downloads / name, *downloads.glob(f"{name}@*")) if (folder / LINES).is_file()]
    versions = {folder: (folder / VERSION) for folder in folders}
    read = {folder: int(file.read_text()) if file.is_file() else None for folder, file in versions.items()}
    newest = max(read, key=lambda folder: read[folder] or 0, default=None)
    return None if newest is None else (newest, read[newest])


def held_version(name: str, downloads: Path) -> int | None:
    """The version of a corpus that is in `downloads`; None where there is none, or it is not known."""
    found = held(name, downloads)
    return found[1] if found else None


def published_versions(names: Collection[str]) -> dict[str, int | None]:
    """The version of each corpus that ConvoKit offers now; None where it does not say, or cannot be asked."""
    import requests

    if not names:
        return {}
    try:
        versions = dict(requests.get(CONFIGURATION, timeout=SECONDS_FOR_CONFIGURATION).json()["cur_version"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        versions = {}
    found: dict[str, int | None] = {}
    for name in names:
        # One version stands for all corpora of a family.
        family = next((family for family in FAMILIES if name.startswith(f"{family}-")), name.lower())
        try:
            found[name] = int(versions[name] if name in versions else versions[family])
        except (KeyError, ValueError, TypeError):
            found[name] = None
    return found


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
        raise UnreachableError(
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
    """Remove what killed attempts have left: nobody holds their lock any more."""
    for attempt in downloads.glob(".*-*"):
        with locked(attempt) as free:
            if free:
                shutil.rmtree(attempt, ignore_errors=True)
