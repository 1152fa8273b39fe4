"""What the setting `corpus` names: the sample, paths on disk, or names of ConvoKit's collection.

`fetch` turns each source into parts in one folder, named 00, 01 and on in the order in which they are read: a part
is a ConvoKit folder, a dump or a table. Files on disk are linked, not copied, since a corpus may be as large as the
disk.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.archives import unzip
from adc_pipeline.corpus.download import download, downloaded_version, newest_download
from adc_pipeline.corpus.folders import DATA, data_files, watched_files
from adc_pipeline.corpus.formats import recognise
from adc_pipeline.corpus.recorded_files import file_stamp
from adc_pipeline.corpus.settings import CorpusSettings

SAMPLE = "sample"

# Creates one part at the path it is given, which does not exist yet.
CreatePart = Callable[[Path], None]


def sources(corpus: str) -> list[str]:
    """Split the setting `corpus` into its sources: one existing path, or names separated by commas."""
    if corpus and os.path.exists(source_path(corpus)):
        return [corpus]
    named = [source.strip() for source in corpus.split(",") if source.strip()]
    if not named or len(set(named)) < len(named):
        raise PipelineError(
            f"The setting corpus (or ADC_CORPUS) is {corpus!r}, which names nothing, or one thing twice: name each"
            " source once."
        )
    return named


def source_path(source: str) -> Path:
    """Return a source as a path. Test it with `os.path.exists`, which accepts names of any length."""
    return Path(os.path.expanduser(source))


def is_path(source: str) -> bool:
    """Return whether a source means a path on disk rather than a name of ConvoKit's collection."""
    named_as_file = source.endswith(".zip") or (DATA.fullmatch(source) is not None)
    return source.startswith((".", "~", "/")) or "/" in source or "\\" in source or named_as_file


def convokit_names(settings: CorpusSettings) -> list[str]:
    """Return the sources that are downloaded from ConvoKit's collection."""
    return [
        source
        for source in sources(settings.corpus)
        if source != SAMPLE and not os.path.exists(source_path(source)) and not is_path(source)
    ]


def check_source(settings: CorpusSettings, contents: bool = True) -> None:
    """Raise PipelineError for a source on disk that is missing or, with `contents`, cannot be read as a corpus."""
    for source in sources(settings.corpus):
        path = source_path(source)
        if source == SAMPLE:
            continue
        if os.path.exists(path):
            for file in [] if not contents or zipfile.is_zipfile(path) else data_files(path, settings.format):
                if recognise(file, settings.format) == "table":
                    from adc_pipeline.corpus.readers.tables import check_columns

                    check_columns(file, settings.columns)
        elif is_path(source):
            raise PipelineError(
                f"The corpus {source} does not exist: give the setting corpus (or ADC_CORPUS) the path of a"
                " ConvoKit folder or zip, a dump or a table."
            )


def download_all(settings: CorpusSettings, downloads: Path, report: Report = no_report) -> dict[str, Path]:
    """Download each source of ConvoKit's collection that is not in `downloads` yet; return the folders by name.

    Call this before `fetch`, so that a rerun reuses the downloads that are complete.
    """
    return {name: download(name, downloads, report) for name in convokit_names(settings)}


def downloaded(settings: CorpusSettings, downloads: Path) -> dict[str, Path]:
    """Return the newest folder of each named corpus that `download_all` has brought, without asking the network."""
    found = {name: newest_download(name, downloads) for name in convokit_names(settings)}
    return {name: newest[0].resolve() for name, newest in found.items() if newest is not None}


def fetch(settings: CorpusSettings, downloaded: Mapping[str, Path], out: Path, report: Report = no_report) -> None:
    """Create the folder `out`, which does not exist yet, with the parts of the corpus, named 00, 01 and on.

    A part is created in `out`, or is a link to files on disk or in `downloaded` (folders by name). `report`
    receives the names of files that are left out. Raises PipelineError for a source that is no corpus.
    """
    parts = [part for source in sources(settings.corpus) for part in source_parts(source, settings, downloaded, report)]
    out.mkdir()
    for number, create in enumerate(parts):
        create(out / f"{number:0{max(2, len(str(len(parts) - 1)))}}")


def source_parts(
    source: str, settings: CorpusSettings, downloaded: Mapping[str, Path], report: Report
) -> list[CreatePart]:
    """Return the functions that create the parts of one source, in reading order."""
    path = source_path(source)
    if source == SAMPLE:
        return [partial(generate, settings)]
    if not os.path.exists(path):
        return [partial(link, downloaded[source])]
    if zipfile.is_zipfile(path):
        return [partial(unzip, path)]
    return [partial(link, file) for file in data_files(path, settings.format, report)]


def generate(settings: CorpusSettings, out: Path) -> None:
    from adc_pipeline.corpus.sample import write_sample

    out.mkdir()
    size = {"conversations": settings.sample_conversations} if settings.sample_conversations else {}
    write_sample(out, seed=settings.sample_seed, **size)


def link(path: Path, out: Path) -> None:
    out.symlink_to(path.resolve())


def corpus_state(settings: CorpusSettings, downloads: Path) -> dict[str, Any]:
    """Return what identifies the current state of the sources, without reading any content.

    Size and time of each file on disk, including new files in a folder of dumps, and the version of each corpus in
    `downloads`. Two equal states mean that the corpus has not changed.
    """
    state: dict[str, Any] = {}
    for source in sources(settings.corpus):
        path = source_path(source)
        if source in convokit_names(settings):
            state[source] = downloaded_version(source, downloads)
        elif source != SAMPLE and os.path.exists(path):
            state |= {str(file.resolve()): file_stamp(file) for file in watched_files(path, settings.format)}
    return state
