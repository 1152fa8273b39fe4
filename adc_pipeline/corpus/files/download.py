"""Download a corpus of ConvoKit's collection by its name; a corpus appears in `downloads` complete or not at all.

ConvoKit's configuration (one request, 10 s at most) gives the address and the published version of each corpus.
`convokit.download` itself is not used: it keeps a registry in the home directory that a killed or deleted download
leaves wrong, and reports no progress. Each attempt writes into a temporary folder and renames it to
`downloads/NAME`; a newer version goes to `downloads/NAME@VERSION`, since artefacts of the earlier version link
there. Without a network, the newest downloaded version is used.
"""

import shutil
import zipfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from adc_pipeline.core.engine import Report, no_report, reporting
from adc_pipeline.core.errors import PipelineError, UnreachableError, is_disk_full
from adc_pipeline.core.store.links import locked
from adc_pipeline.corpus.files.archives import unpack
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES

# A file beside the corpus that holds the version published at the time of the download.
VERSION = ".version"
# The address that `convokit.download` reads, too.
CONFIGURATION = "https://raw.githubusercontent.com/CornellNLP/ConvoKit/master/download_config.json"
SECONDS_FOR_CONFIGURATION = 10.0
# Connect and read; a download may take as long as it makes progress.
SECONDS_WITHOUT_DATA = 60.0
BLOCK = 1 << 20
# Many corpora of one kind share one version and are not listed by name.
FAMILIES = ("subreddit", "wikiconv", "supreme")


def download(name: str, downloads: Path, report: Report = no_report) -> Path:
    """Return the folder of the corpus `name` below `downloads`; download it if it or its newest version is missing.

    `report` receives the progress. Raises PipelineError for a name that ConvoKit does not know, and
    UnreachableError where the download fails.
    """
    configuration = read_configuration()
    published = published_version(name, configuration)
    existing = newest_download(name, downloads)
    if existing is not None:
        folder, version = existing
        if version is None and published is not None:
            # A download without a recorded version counts as the version that is published now.
            (folder / VERSION).write_text(f"{published}\n")
        if published is None or version is None or version >= published:
            return folder.resolve()
        report(f"{name}: version {published} is published, and version {version} is here.")
    downloads.mkdir(parents=True, exist_ok=True)
    target = downloads / (name if existing is None else f"{name}@{published}")
    with ExitStack() as stack:
        with locked(downloads, wait=True):
            remove_abandoned(downloads)
            attempt = Path(mkdtemp(prefix=f".{name}-", dir=downloads))
            stack.callback(shutil.rmtree, attempt, ignore_errors=True)
            stack.enter_context(locked(attempt))
        archive = attempt / f"{name}.zip"
        transfer(name, corpus_address(name, configuration), archive, report)
        unpack(archive, attempt / name)
        found = list((attempt / name).rglob(UTTERANCES))
        if len(found) != 1:
            raise PipelineError(
                f"The archive of {name} in ConvoKit's collection holds {len(found)} files named {UTTERANCES}, and a"
                " corpus has one: give the setting corpus (or ADC_CORPUS) the name of a corpus, such as"
                " reddit-corpus-small."
            )
        if published is not None:
            (found[0].parent / VERSION).write_text(f"{published}\n")
        try:
            found[0].parent.rename(target)
        except OSError:
            # Another run may have finished the same download first.
            if not (target / UTTERANCES).is_file():
                raise
    return target.resolve()


def recorded_version(file: Path) -> int | None:
    """Return the version in a file beside a downloaded corpus, or None if there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def newest_download(name: str, downloads: Path) -> tuple[Path, int | None] | None:
    """Return the folder and the version (None if unrecorded) of the newest complete download of a corpus."""
    folders = [folder for folder in (downloads / name, *downloads.glob(f"{name}@*")) if (folder / UTTERANCES).is_file()]
    files = {folder: (folder / VERSION) for folder in folders}
    versions = {folder: recorded_version(file) for folder, file in files.items()}
    newest = max(versions, key=lambda folder: versions[folder] or 0, default=None)
    return None if newest is None else (newest, versions[newest])


def downloaded_version(name: str, downloads: Path) -> int | None:
    """Return the version of a corpus in `downloads`; None if there is none or its version is unrecorded."""
    found = newest_download(name, downloads)
    return found[1] if found else None


def read_configuration() -> dict[str, Any]:
    """Return ConvoKit's configuration of addresses and versions; empty if it cannot be fetched."""
    import requests

    try:
        configuration = requests.get(CONFIGURATION, timeout=SECONDS_FOR_CONFIGURATION).json()
    except (requests.RequestException, ValueError):
        return {}
    return configuration if isinstance(configuration, dict) else {}


def published_versions(names: Collection[str]) -> dict[str, int | None]:
    """Return the published version of each corpus; None where ConvoKit does not state it or cannot be reached."""
    configuration = read_configuration() if names else {}
    return {name: published_version(name, configuration) for name in names}


def published_version(name: str, configuration: Mapping[str, Any]) -> int | None:
    family = next((family for family in FAMILIES if name.startswith(f"{family}-")), name.lower())
    try:
        versions = configuration["cur_version"]
        return int(versions[name] if name in versions else versions[family])
    except (KeyError, ValueError, TypeError):
        return None


def corpus_address(name: str, configuration: Mapping[str, Any]) -> str:
    """Return the address of a corpus; raises PipelineError for an unknown name, UnreachableError without network."""
    from convokit import util

    try:
        match name.split("-", maxsplit=2):
            case ["subreddit", *rest] if rest:
                address = util.get_subreddit_info("-".join(rest))
            case ["wikiconv", language, *year]:
                address = util._get_wikiconv_year_info(language, *year)
            case ["supreme", year]:
                address = util._get_supreme_info(year)
            case _:
                if not configuration:
                    raise unreachable(name, "no configuration")
                address = configuration.get("DatasetURLs", {}).get(name.lower())
    except OSError as error:
        raise unreachable(name, type(error).__name__) from error
    if not isinstance(address, str) or not address:
        raise PipelineError(
            f"ConvoKit knows no corpus {name}: give the setting corpus (or ADC_CORPUS) one of its names, such as"
            " reddit-corpus-small, or a path."
        )
    return address


def transfer(name: str, address: str, archive: Path, report: Report) -> None:
    """Write the file at `address` to `archive`; raises UnreachableError if it does not arrive complete."""
    import requests

    total = received = 0

    def progress() -> str:
        of = f" of {total / 1e6:,.1f}" if total else ""
        return f"{name}: {received / 1e6:,.1f}{of} MB downloaded"

    try:
        with (
            requests.get(address, stream=True, timeout=SECONDS_WITHOUT_DATA) as response,
            archive.open("wb") as file,
            reporting(progress, report),
        ):
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0))
            for block in response.iter_content(BLOCK):
                file.write(block)
                received += len(block)
    except (requests.RequestException, OSError, ValueError) as error:
        if is_disk_full(error):
            raise
        raise unreachable(name, type(error).__name__) from error
    if received < total or not zipfile.is_zipfile(archive):
        raise unreachable(name, "the file is incomplete")
    report(progress())


def unreachable(name: str, reason: str) -> UnreachableError:
    return UnreachableError(
        f"The corpus {name} could not be downloaded ({reason}): check the name and the network, or give the setting"
        " corpus (or ADC_CORPUS) the path of a ConvoKit folder on disk."
    )


def remove_abandoned(downloads: Path) -> None:
    """Remove the folders of killed attempts, which nobody has locked."""
    for attempt in downloads.glob(".*-*"):
        with locked(attempt) as free:
            if free:
                shutil.rmtree(attempt, ignore_errors=True)
