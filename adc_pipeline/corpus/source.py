"""Where a raw corpus comes from: the sample, folders, zips and files on disk, or ConvoKit's collection by name.

Whatever it is becomes one folder of parts, named 00, 01 and on in the order in which they are read: each a
ConvoKit folder, a dump or a table. What lies on disk is linked, not copied, since a corpus may be as large
as the disk; its digest says whether it is still the same, wherever it lies.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from adc_pipeline.core.artefacts import combined_digest, file_digest
from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.corpus.download import download, held, held_version
from adc_pipeline.corpus.formats import Format, recognise, unfit
from adc_pipeline.corpus.settings import CorpusSettings

SAMPLE = "sample"
# What ConvoKit writes; whatever else lies in its folder is not the corpus.
FILES = ("conversations.json", "corpus.json", "index.json", "speakers.json", "users.json", "utterances.jsonl")
# Which files of a folder are looked into. What they are, their content says.
DATA = re.compile(r"(?i)(R[SC]_[^.]*|.*\.(zst|gz|jsonl|ndjson|csv|tsv|parquet))")
ORDER = ("convokit", "submissions", "comments", "table")

# Makes one part at the path it is given, which does not exist yet.
Make = Callable[[Path], None]


def on_disk(source: str) -> Path:
    """Where a source would lie if it is a path. Ask `os.path.exists` for it, which no length of a name upsets."""
    return Path(os.path.expanduser(source))


def sources(corpus: str) -> list[str]:
    """What the setting `corpus` names: one path, if there is such, or else what its commas separate."""
    if corpus and os.path.exists(on_disk(corpus)):
        return [corpus]
    named = [source.strip() for source in corpus.split(",") if source.strip()]
    if not named or len(set(named)) < len(named):
        raise PipelineError(
            f"The setting corpus (or ADC_CORPUS) is {corpus!r}, which names nothing, or one thing twice: name each"
            " source once."
        )
    return named


def names(settings: CorpusSettings) -> list[str]:
    """Those of the sources that ConvoKit is asked for."""
    return [
        source
        for source in sources(settings.corpus)
        if source != SAMPLE and not os.path.exists(on_disk(source)) and not is_path(source)
    ]


def download_all(settings: CorpusSettings, downloads: Path, report: Report = no_report) -> dict[str, Path]:
    """The folder of each corpus that ConvoKit is asked for, by name.

    Comes before the first part is made, so that a rerun finds those that came.
    """
    return {name: download(name, downloads, report) for name in names(settings)}


def downloaded(settings: CorpusSettings, downloads: Path) -> dict[str, Path]:
    """Return the newest folder of each named corpus that `download_all` has brought, without asking the network."""
    found = {name: held(name, downloads) for name in names(settings)}
    return {name: here[0].resolve() for name, here in found.items() if here is not None}


def is_path(source: str) -> bool:
    """Whether a source means a place on disk rather than a name."""
    named_as_file = source.endswith(".zip") or (DATA.fullmatch(source) is not None)
    return source.startswith((".", "~", "/")) or "/" in source or "\\" in source or named_as_file


def check_source(settings: CorpusSettings, contents: bool = True) -> None:
    """Raise PipelineError for a corpus on disk that cannot be one, before anything is made of it.

    Without `contents`, only for one that is not there.
    """
    for source in sources(settings.corpus):
        path = on_disk(source)
        if source == SAMPLE:
            continue
        if os.path.exists(path):
            for file in [] if not contents or zipfile.is_zipfile(path) else files_of(path, settings.format):
                if recognise(file, settings.format) == "table":
                    from adc_pipeline.corpus.readers.tables import check_columns

                    check_columns(file, settings.columns)
        elif is_path(source):
            raise PipelineError(
                f"The corpus {source} does not exist: give the setting corpus (or ADC_CORPUS) the path of a"
                " ConvoKit folder or zip, a dump or a table."
            )


def fetch(settings: CorpusSettings, downloaded: Mapping[str, Path], out: Path, report: Report = no_report) -> None:
    """Bring the corpus to the folder `out`, which does not exist yet, as parts named 00, 01 and on.

    A part is a folder made here, or a link to what is on disk or has been `downloaded`, by name. `report` hears
    what in a folder is left out. Raises PipelineError for what cannot be a corpus.
    """
    makes = [make for source in sources(settings.corpus) for make in parts_of(source, settings, downloaded, report)]
    out.mkdir()
    for number, make in enumerate(makes):
        make(out / f"{number:0{max(2, len(str(len(makes) - 1)))}}")


def parts_of(source: str, settings: CorpusSettings, downloaded: Mapping[str, Path], report: Report) -> list[Make]:
    """How to make the parts of one source, in reading order."""
    path = on_disk(source)
    if source == SAMPLE:
        return [partial(generate, settings)]
    if not os.path.exists(path):
        return [partial(link, downloaded[source])]
    if zipfile.is_zipfile(path):
        return [partial(unzip, path)]
    return [partial(link, file) for file in files_of(path, settings.format, report)]


def generate(settings: CorpusSettings, out: Path) -> None:
    from adc_pipeline.corpus.sample import write_sample

    out.mkdir()
    size = {"conversations": settings.sample_conversations} if settings.sample_conversations else {}
    write_sample(out, seed=settings.sample_seed, **size)


def link(path: Path, out: Path) -> None:
    out.symlink_to(path.resolve())


def files_of(path: Path, wanted: Format, report: Report = no_report) -> list[Path]:
    """The path itself, or the dumps and tables in a folder: submissions before comments, then by name."""
    if path.is_file() and path.suffix.lower() == ".zip":
        raise PipelineError(
            f"The file {path} is not a whole zip archive: fetch it again, or give the setting corpus (or"
            " ADC_CORPUS) another."
        )
    if not path.is_dir() or wanted == "convokit" or (wanted == "auto" and (path / "utterances.jsonl").is_file()):
        recognise(path, wanted)
        return [path]
    below = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    data = [file for file in below if DATA.fullmatch(file.name)]
    if not data:
        raise unfit(path, "is neither a ConvoKit corpus, which has utterances.jsonl, nor a folder of dumps or tables")
    if left_out := [str(file.relative_to(path)) for file in below if file not in data]:
        report(f"In {path}, no part of the corpus: {', '.join(left_out[:20])}{' …' * (len(left_out) > 20)}")
    return sorted(data, key=lambda file: (ORDER.index(recognise(file, wanted)), file.name, file))


def unzip(archive: Path, out: Path) -> None:
    """Unpack the folder of `archive` that holds utterances.jsonl, and nothing that would leave `out`."""
    aside = out.with_name("unzipped")
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.namelist():
                if not (aside / member).resolve().is_relative_to(aside.resolve()):
                    raise PipelineError(
                        f"The zip {archive} holds {member!r}, which would be written outside its folder: do not"
                        " trust it, and give the setting corpus another."
                    )
            content.extractall(aside)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        if is_disk_full(error):
            raise
        raise PipelineError(f"The zip {archive} could not be unpacked ({error}): fetch it again.") from error
    found = sorted(aside.rglob("utterances.jsonl"))
    if len(found) != 1:
        raise PipelineError(
            f"The zip {archive} holds {len(found)} files named utterances.jsonl, and a ConvoKit corpus has one:"
            " give the setting corpus another."
        )
    found[0].parent.rename(out)
    shutil.rmtree(aside, ignore_errors=True)


def observed(settings: CorpusSettings, downloads: Path) -> dict[str, Any]:
    """What the corpus is made of as far as a look at the disk tells, a corpus that changed being observed otherwise.

    Size and time of each file on disk, which for a folder of dumps are all that lie in it now, and the version of
    each corpus in `downloads`. Reads no content.
    """
    seen: dict[str, Any] = {}
    for source in sources(settings.corpus):
        path = on_disk(source)
        if source in names(settings):
            seen[source] = held_version(source, downloads)
        elif source != SAMPLE and os.path.exists(path):
            seen |= {str(file.resolve()): _stamp(file) for file in observed_files(path, settings.format)}
    return seen


def observed_files(path: Path, wanted: Format) -> list[Path]:
    """The files that a change of the corpus at this path would show in."""
    if not path.is_dir():
        return [path]
    if wanted == "convokit" or (wanted == "auto" and (path / "utterances.jsonl").is_file()):
        return recorded(path)
    return [file for file in sorted(path.rglob("*")) if file.is_file() and DATA.fullmatch(file.name)]


def record_files(corpus: Path, record: Path, before: Path | None = None) -> str:
    """Write size, time and SHA-256 of each file of the parts in `corpus` to `record`; returns the corpus' digest.

    A linked file that is in the record beside the corpus `before` with the same size and time is not read again.
    """
    known = {} if before is None else _linked(before)
    files: dict[str, dict[str, Any]] = {}
    for path in files_taken(corpus):
        stamp, last = _stamp(path), known.get(path.resolve(), {})
        same = last.items() >= stamp.items()
        files[str(path.relative_to(corpus))] = stamp | {"sha256": last["sha256"] if same else file_digest(path)}
    record.write_text(json.dumps(files, indent=2) + "\n")
    return combined_digest((name, str(entry["sha256"])) for name, entry in files.items())


def _linked(corpus: Path) -> dict[Path, dict[str, Any]]:
    """What is recorded of the linked parts of a corpus that was taken in, by where their files are."""
    files: dict[str, dict[str, Any]] = json.loads((corpus.parent / "files.json").read_text())
    return {
        (corpus / name).resolve(): entry for name, entry in files.items() if (corpus / Path(name).parts[0]).is_symlink()
    }


def files_taken(corpus: Path) -> list[Path]:
    """All files of a corpus that are read, whose digests are the corpus'; in the order of its parts."""
    return [path for part in sorted(corpus.iterdir()) for path in recorded(part)]


def recorded(part: Path) -> list[Path]:
    """The files of a part that are read: those of ConvoKit in a folder, or else the file itself."""
    return [part / name for name in FILES if (part / name).is_file()] if part.is_dir() else [part]


def check_unchanged(corpus: Path, record: Path) -> None:
    """Raise PipelineError if a part that is linked, not kept here, is no longer what `record_files` saw."""
    for name, seen in json.loads(record.read_text()).items():
        path = corpus / name
        if not (corpus / Path(name).parts[0]).is_symlink():
            continue
        if not path.is_file() or any(seen[key] != value for key, value in _stamp(path).items()):
            raise PipelineError(
                f"{path.resolve()} has changed since the corpus was taken in: materialize the asset raw_corpus again."
            )


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
