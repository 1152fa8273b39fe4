"""What the setting `corpus` names: the sample, paths on disk, addresses, or names of ConvoKit's collection.

`fetch` turns each source into parts in one folder, named 00, 01 and on in the order in which they are read: a part
is a ConvoKit folder, a dump, a table or a file of another known layout. Files on disk are linked, not copied, since a
corpus may be as large as the disk, and files at an address are read where they lie; archives are unpacked.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import access_problem, file_problem, is_utf8, named_path
from adc_pipeline.core.terminal import printable
from adc_pipeline.corpus.files.archives import check_archive, unpack
from adc_pipeline.corpus.files.download import download, downloaded_version, newest_download
from adc_pipeline.corpus.files.folders import DATA, DataFile, Listing, list_data, watched_files
from adc_pipeline.corpus.opening.recorded_files import STACK_EXCHANGE_FILES, recorded, source_stamp
from adc_pipeline.corpus.opening.remote import RemoteFile, is_remote, remote_file
from adc_pipeline.corpus.opening.unfit import unfit
from adc_pipeline.corpus.parts import NewPart, left_out_lines, write_parts
from adc_pipeline.corpus.readers.carried import NEEDED, carried, own
from adc_pipeline.corpus.recognition.file_fields import known_fields, later_keys
from adc_pipeline.corpus.recognition.formats import Recognised, identity, remember
from adc_pipeline.corpus.settings import CorpusSettings

SAMPLE = "sample"
UNPACKED = ".unpacked"


def sources(corpus: str) -> list[str]:
    """Split the setting `corpus` into its sources: one existing path, or names separated by commas."""
    if corpus and exists(corpus):
        return [corpus]
    named = [source.strip() for source in corpus.split(",") if source.strip()]
    if not named or len(set(named)) < len(named):
        raise PipelineError(
            f"The setting corpus (or ADC_CORPUS) is {corpus!r}, which names nothing, or one thing twice: name each"
            " source once."
        )
    return named


def is_sample(corpus: str) -> bool:
    """Return whether the setting `corpus` means the generated sample and nothing else."""
    return set(sources(corpus)) == {SAMPLE}


def source_path(source: str) -> Path:
    """Return a source as a path; an address as a `RemoteFile`."""
    return remote_file(source) if is_remote(source) else named_path(source)


def exists(source: str) -> bool:
    """Return whether a source is something on disk; a link that leads nowhere is. Accepts names of any length."""
    return not is_remote(source) and os.path.lexists(source_path(source))


def is_path(source: str) -> bool:
    """Return whether a source means a path on disk rather than a name of ConvoKit's collection."""
    return source.startswith((".", "~", "/")) or "/" in source or "\\" in source or DATA.fullmatch(source) is not None


def convokit_names(settings: CorpusSettings) -> list[str]:
    """Return the sources that are downloaded from ConvoKit's collection."""
    return [
        source for source in sources(settings.corpus) if source != SAMPLE and not exists(source) and not is_path(source)
    ]


def check_source(settings: CorpusSettings, contents: bool = True) -> None:
    """Raise PipelineError for a source on disk that is missing or empty or, with `contents`, is no corpus."""
    names = convokit_names(settings)
    listed: dict[Path, str] = {}
    kinds: list[str] = []
    for source in sources(settings.corpus):
        path = source_path(source)
        if source == SAMPLE or source in names:
            kinds.append("convokit")
            continue
        if not is_utf8(source):
            raise PipelineError(f"The corpus {source} has a path that is not UTF-8: rename it.")
        try:
            path.stat()
        except PermissionError as error:
            raise PipelineError(f"The corpus {source} {access_problem(path, error)}.") from error
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"The corpus {source} {access_problem(path, error).partition(':')[0]}: give the setting corpus (or"
                " ADC_CORPUS) the path of a ConvoKit folder or zip, a dump or a table."
            ) from error
        if not contents and not isinstance(path, RemoteFile):
            check_present(path, settings)
        for file in list_data(path, settings.format, settings.columns).files if contents else []:
            check_data(file, settings)
            check_listed_once(file, source, listed)
            kinds.append(file.what.kind)
    check_mapping(settings, kinds)


def check_present(path: Path, settings: CorpusSettings) -> None:
    """Raise PipelineError for a source on disk that holds nothing to read, as the folder of a disk that is not mounted.

    Opens no file whose name says that it is data.
    """
    if not os.path.isdir(path) and (problem := file_problem(path)):
        raise PipelineError(f"The corpus {path} {problem}.")
    if not watched_files(path, settings.format, settings.columns):
        raise PipelineError(
            f"The corpus {path} holds no file that is read: put files there, mount the disk, or give the setting corpus"
            " (or ADC_CORPUS) another path."
        )


def check_listed_once(file: DataFile, source: str, listed: dict[Path, str]) -> None:
    """Raise PipelineError for a file that another source has, too; `listed` has the source of each so far."""
    for path in file.paths:
        other = listed.setdefault(path.resolve(), source)
        if other != source:
            raise PipelineError(
                f"The setting corpus (or ADC_CORPUS) names {other} and {source}, and both hold {path.resolve()}: name"
                " each file once."
            )


def check_mapping(settings: CorpusSettings, kinds: Sequence[str]) -> None:
    """Raise PipelineError if `columns` maps columns of an utterance, and no part of the corpus is a table."""
    if kinds and own(settings.columns) and not {"table", "archive"} & set(kinds):
        raise PipelineError(
            f"The setting columns maps {', '.join(own(settings.columns))}, and {settings.corpus} has no table that this"
            " applies to, since a ConvoKit corpus, a dump or another known layout has names of its own: leave it out,"
            f" or map all of {', '.join(NEEDED)} of one file, such as utterances.jsonl, to have it read as a table."
        )


def check_data(file: DataFile, settings: CorpusSettings) -> None:
    """Raise PipelineError for an archive that cannot be unpacked, and for a table without the columns it needs."""
    carried(settings.columns)
    if file.what.kind == "archive":
        check_archive(file.paths[0])
    elif file.what.kind == "table":
        from adc_pipeline.corpus.readers.tables import check_columns, mapped

        if file.what.container in ("csv", "parquet"):
            check_columns(file.paths[0], settings.columns)
        else:
            path, columns = file.paths[0], settings.columns
            known = known_fields(path, file.what.container)
            known |= later_keys(path, known, columns) if file.what.container == "lines" else set()
            # Later lines may have a field that is carried.
            mapped(path, sorted(known), own(columns))


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

    A part is created in `out`, or is a link to files on disk or in `downloaded` (folders by name). What is left out
    of the sources is recorded beside `out` (`corpus.parts`) and goes to `report`. Raises PipelineError for a source
    that is no corpus.
    """
    out.mkdir()
    unpacked = out.with_name(UNPACKED)
    parts: list[NewPart] = []
    left_out: dict[str, str] = {}
    links: dict[str, str] = {}
    archives: dict[str, dict[str, Any]] = {}
    for source in sources(settings.corpus):
        if source == SAMPLE:
            parts.append(NewPart(partial(generate, settings), SAMPLE, source))
        elif source in downloaded:
            parts.append(NewPart(partial(link, downloaded[source]), source, source))
        else:
            listing = list_all(source_path(source), unpacked / str(len(parts)), settings)
            for file in listing.files:
                put = partial(move, settings, file.what) if file.paths[0].is_relative_to(unpacked) else link
                put = write_reference if isinstance(file.paths[0], RemoteFile) else put
                site = f"{source}/{file.site}" if file.site else source
                remote = isinstance(file.paths[0], RemoteFile)
                parts.append(NewPart(partial(place, file, put), file.name, site, file.what, remote))
            name = source_path(source).name
            left_out |= {f"{name}/{path}": reason for path, reason in listing.left_out.items()}
            links |= {f"{name}/{path}": target for path, target in listing.links.items()}
            archives |= listing.archives
    width = max(2, len(str(len(parts) - 1)))
    for number, part in enumerate(parts):
        part.create(out / f"{number:0{width}}")
    shutil.rmtree(unpacked, ignore_errors=True)
    write_parts(out, parts, left_out, links, archives)
    for line in left_out_lines(out):
        report(printable(line))


def list_all(path: Path, unpacked: Path, settings: CorpusSettings) -> Listing:
    """Return the data at a path in reading order, that of archives included, which are unpacked below `unpacked`."""
    listing = list_data(path, settings.format, settings.columns)
    archives = [file.paths[0] for file in listing.files if file.what.kind == "archive"]
    listing.files = [file for file in listing.files if file.what.kind != "archive"]
    for number, archive in enumerate(archives):
        folder = unpacked / str(number) / archive.name.split(".")[0]
        with recorded(archive, listing.archives):
            left_out = unpack(archive, folder, settings.format, settings.columns)
        if not any(path.is_file() for path in folder.rglob("*")):
            reasons = "; ".join(f"{name} {why}" for name, why in sorted(left_out.items())[:3])
            raise unfit(archive, f"holds no data ({reasons})" if reasons else "is an empty archive")
        try:
            inner = list_data(folder, settings.format, settings.columns)
            for file in inner.files:
                check_data(file, settings)
        except PipelineError as error:
            # Name what the person knows.
            raise PipelineError(str(error).replace(str(folder), str(archive))) from error
        listing.files += inner.files
        prefix = "" if archive == path else f"{archive.name}/"
        listing.left_out |= {f"{prefix}{name}": why for name, why in (left_out | inner.left_out).items()}
    listing.files.sort(key=lambda file: file.reading_order)
    return listing


def generate(settings: CorpusSettings, out: Path) -> None:
    from adc_pipeline.corpus.sample.threads import write_sample

    out.mkdir()
    size = {"conversations": settings.sample_conversations} if settings.sample_conversations else {}
    write_sample(out, seed=settings.sample_seed, **size)


def place(file: DataFile, put: Callable[[Path, Path], object], out: Path) -> None:
    """Put a file or folder at `out`, or the posts and comments of a Stack Exchange site into a folder there."""
    if not file.is_site:
        put(file.paths[0], out)
        return
    out.mkdir()
    for path, name in zip(file.paths, STACK_EXCHANGE_FILES, strict=False):
        put(path, out / name)


def link(path: Path, out: Path) -> None:
    out.symlink_to(path.resolve())


def move(settings: CorpusSettings, what: Recognised, path: Path, out: Path) -> None:
    """Move what was unpacked to its place; what a file was found to be is not looked at again."""
    os.replace(path, out)
    if what.container not in ("folder", "xml"):
        remember(identity(out, settings.format, settings.columns), what)


def write_reference(path: Path, out: Path) -> None:
    """Write where a remote file is and what identifies its content, in place of a link; `corpus.parts` reads it."""
    assert isinstance(path, RemoteFile)
    state = path.state()
    out.write_text(json.dumps({"address": path.address, "bytes": state.bytes, "version": state.version}) + "\n")


def corpus_state(settings: CorpusSettings, downloads: Path) -> dict[str, Any]:
    """Return what identifies the current state of the sources, without reading their content.

    Size and times of each file on disk, including new files in a folder of dumps, and the version of each corpus in
    `downloads`. Two equal states mean that the corpus has not changed.
    """
    state: dict[str, Any] = {}
    names = convokit_names(settings)
    for source in sources(settings.corpus):
        path = source_path(source)
        if source in names:
            state[source] = downloaded_version(source, downloads)
        elif source != SAMPLE and path.exists():
            files = watched_files(path, settings.format, settings.columns)
            state |= {
                str(file.resolve()): file.state()._asdict() if isinstance(file, RemoteFile) else source_stamp(file)
                for file in files
            }
    return state


def source_files(settings: CorpusSettings, downloads: Path) -> list[Path]:
    """Return the files of all sources, on disk or downloaded; the sample has none."""
    named = downloaded(settings, downloads)
    places = [named.get(source, source_path(source)) for source in sources(settings.corpus) if source != SAMPLE]
    return [file for place in places for file in watched_files(place, settings.format, settings.columns)]
