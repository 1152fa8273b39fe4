"""Where a raw corpus comes from: the sample, a folder or zip on disk, or ConvoKit's collection by name.

What is already a folder is linked, not copied, since a corpus may be as large as the disk; its digest says
whether it is still the same. ConvoKit itself downloads (`convokit.download`), into `ADC_HOME/downloads`.
"""

import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from adc_pipeline.artefacts import combined_digest, file_digest
from adc_pipeline.errors import PipelineError, is_disk_full

SAMPLE = "sample"
# What ConvoKit writes; whatever else lies in the folder is not the corpus.
FILES = ("conversations.json", "corpus.json", "index.json", "speakers.json", "users.json", "utterances.jsonl")


@dataclass(frozen=True)
class CorpusSettings:
    """Settings of the asset `raw_corpus`."""

    corpus: str = field(
        default="",
        metadata={
            "description": "sample, a path to a ConvoKit folder or zip, or a ConvoKit name such as"
            " reddit-corpus-small; empty takes ADC_CORPUS, or sample."
        },
    )
    sample_conversations: int = field(
        default=0, metadata={"description": "Conversations in the generated sample; 0 takes its own default."}
    )
    sample_seed: int = field(default=0, metadata={"description": "Seed of the generated sample."})


def is_path(corpus: str) -> bool:
    """Whether the setting means a place on disk rather than a name."""
    return corpus.startswith((".", "~", "/")) or "/" in corpus or "\\" in corpus or corpus.endswith(".zip")


def check_source(corpus: str) -> None:
    """Raise PipelineError for a corpus on disk that cannot be one, before anything is made of it."""
    path = Path(corpus).expanduser()
    if corpus == SAMPLE:
        return
    if not path.exists():
        if is_path(corpus):
            raise PipelineError(
                f"The corpus {corpus} does not exist: give the setting corpus (or ADC_CORPUS) the path of a"
                " ConvoKit folder or zip."
            )
    elif path.is_dir() and not (path / "utterances.jsonl").is_file():
        raise PipelineError(
            f"The folder {corpus} holds no utterances.jsonl, so it is not a ConvoKit corpus: give the setting"
            " corpus (or ADC_CORPUS) the folder that does."
        )
    elif path.is_file() and not zipfile.is_zipfile(path):
        raise PipelineError(
            f"The file {corpus} is not a whole zip archive: fetch it again, or give the setting corpus (or"
            " ADC_CORPUS) a ConvoKit folder or zip."
        )


def fetch(settings: CorpusSettings, downloads: Path, out: Path) -> None:
    """Bring the corpus to `out`, which does not exist yet: a folder made here, or a link to one on disk."""
    path = Path(settings.corpus).expanduser()
    if settings.corpus == SAMPLE:
        from adc_pipeline.corpus.sample import write_sample

        out.mkdir()
        size = {"conversations": settings.sample_conversations} if settings.sample_conversations else {}
        write_sample(out, seed=settings.sample_seed, **size)
    elif path.is_dir():
        out.symlink_to(path.resolve())
    elif path.is_file():
        unzip(path, out)
    else:
        out.symlink_to(download(settings.corpus, downloads))


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


def download(name: str, downloads: Path) -> Path:
    """The folder of the corpus `name` after `convokit.download`, which takes what is already there."""
    import convokit

    downloads.mkdir(parents=True, exist_ok=True)
    try:
        folder = Path(convokit.download(name, data_dir=str(downloads))).resolve()
    except (KeyError, IndexError) as error:
        raise PipelineError(
            f"ConvoKit knows no corpus {name}: give the setting corpus (or ADC_CORPUS) one of its names, such as"
            " reddit-corpus-small, or a path."
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if is_disk_full(error):
            raise
        raise PipelineError(
            f"The corpus {name} could not be downloaded ({type(error).__name__}): check the name and the network,"
            " or give the setting corpus (or ADC_CORPUS) the path of a ConvoKit folder on disk."
        ) from error
    check_source(str(folder))
    return folder


def record_files(corpus: Path, record: Path) -> str:
    """Write size, time and SHA-256 of each file of the corpus to `record`; returns the corpus' digest."""
    files = {
        name: _stamp(corpus / name) | {"sha256": file_digest(corpus / name)}
        for name in FILES
        if (corpus / name).is_file()
    }
    record.write_text(json.dumps(files, indent=2) + "\n")
    return combined_digest((name, str(entry["sha256"])) for name, entry in files.items())


def check_unchanged(corpus: Path, record: Path) -> None:
    """Raise PipelineError if a corpus that is linked, not kept here, is no longer what `record_files` saw."""
    if not corpus.is_symlink():
        return
    for name, seen in json.loads(record.read_text()).items():
        path = corpus / name
        if not path.is_file() or any(seen[key] != value for key, value in _stamp(path).items()):
            raise PipelineError(
                f"{path} has changed since the corpus was taken in: materialize the asset raw_corpus again."
            )


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
