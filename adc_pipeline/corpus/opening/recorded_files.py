"""Size, times and SHA-256 of every file of a raw corpus, and the digest of the corpus.

A raw corpus links to the files on disk instead of copying them, so later stages compare each linked file with this
record before they read it. A file whose size and times are those of the last record is not hashed again: hashing
reads every byte of a corpus that may fill the disk. One of the times is that of the last change of the inode, which
`cp -p` and `rsync -t` cannot set: a file that another of the same size and time has replaced is noticed. A file that
got another mode or a hard link is hashed once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.core.records import REMEDY, fits, read_record, write_record
from adc_pipeline.core.store.artefacts import is_inside
from adc_pipeline.core.store.content import combined_digest, file_digest, file_stamp

# What makes a folder a ConvoKit corpus, and all of its files; any other file in its folder is not read.
UTTERANCES = "utterances.jsonl"
CONVOKIT_FILES = ("conversations.json", "corpus.json", "index.json", "speakers.json", "users.json", UTTERANCES)
# Those whose content is used.
CONVOKIT_READ = ("conversations.json", "corpus.json", UTTERANCES)
# The files of a part that is a Stack Exchange site, whatever they are called at their source.
STACK_EXCHANGE_FILES = ("Posts.xml", "Comments.xml")
# Beside the folder of parts: what `record_files` and `corpus.parts` write.
FILES, PARTS = "files.json", "parts.json"
CHANGED = "changed_ns"


class FileEntry(TypedDict):
    """What `record_files` writes of a file; earlier versions did not write `changed_ns`."""

    bytes: int
    modified_ns: int
    changed_ns: NotRequired[int]
    sha256: str


class PartEntry(TypedDict):
    """What `corpus.parts` writes of a part."""

    name: str
    source: NotRequired[str]
    remote: NotRequired[bool]


def source_stamp(path: Path) -> dict[str, int]:
    """Return size and modification time of a file outside the store, and when its inode was last changed."""
    return {**file_stamp(path), CHANGED: path.stat().st_ctime_ns}


def record_files(corpus: Path, record: Path, previous: Path | None = None) -> str:
    """Write size, times and SHA-256 of each file of the parts in `corpus` to `record`; return the corpus' digest.

    `previous` is the corpus folder of the last version, with its own record beside it: a linked file with the same
    size and times keeps the hash from there. Raises PipelineError for a file that changes while it is hashed.
    """
    known = {} if previous is None else recorded_links(previous)
    files: dict[str, dict[str, Any]] = {}
    for path in corpus_files(corpus):
        stamp, last = source_stamp(path), known.get(path.resolve(), {})
        same = last.items() >= stamp.items()
        files[str(path.relative_to(corpus))] = stamp | {"sha256": last["sha256"] if same else file_digest(path)}
        if source_stamp(path) != stamp:
            raise changed(path)
    write_record(record, files)
    return corpus_digest(corpus, {name: str(entry["sha256"]) for name, entry in files.items()})


@contextmanager
def recorded(path: Path, record: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Write stamp and SHA-256 of a file that is read in the block to `record`, by resolved path.

    Raises PipelineError if the file has changed meanwhile.
    """
    stamp = source_stamp(path)
    yield
    entry = stamp | {"sha256": file_digest(path)}
    if source_stamp(path) != stamp:
        raise changed(path)
    record[str(path.resolve())] = entry


def corpus_digest(corpus: Path, hashes: Mapping[str, str] | None = None) -> str:
    """Return the digest of a raw corpus, of the SHA-256 of each of its files (computed by default).

    The name of a file stands for the source of utterances that name none, so it is part of the digest.
    """
    if hashes is None:
        hashes = {str(path.relative_to(corpus)): file_digest(path) for path in corpus_files(corpus)}
    names = _part_names(corpus)
    return combined_digest((f"{name}/{names[name]}" if name in names else name, sha) for name, sha in hashes.items())


def _part_names(corpus: Path) -> dict[str, str]:
    record = corpus.with_name(PARTS)
    parts = read_record(record, parts=dict[str, PartEntry])["parts"] if record.is_file() else {}
    return {part: entry["name"] for part, entry in parts.items()}


def read_files(record: Path) -> dict[str, dict[str, Any]]:
    """Return what `record_files` wrote, by path below the corpus; raise DamagedError if it is something else."""
    found = read_record(record)
    if not fits(found, dict[str, FileEntry]) or not all(map(is_inside, found)):
        raise DamagedError(f"{record} is damaged, or another program wrote it: {REMEDY}.")
    return found


def recorded_links(corpus: Path) -> dict[Path, dict[str, Any]]:
    """Return the recorded entries of the linked files of a raw corpus, by the path that each link resolves to.

    A record that is lost or damaged counts as empty.
    """
    try:
        files = read_files(corpus.with_name(FILES))
    except PipelineError:
        return {}
    return {(corpus / name).resolve(): entry for name, entry in files.items() if is_linked(corpus, name)}


def is_linked(corpus: Path, name: str) -> bool:
    """Return whether a file of a raw corpus lies elsewhere: it, or its part, is a link."""
    return (corpus / name).is_symlink() or (corpus / Path(name).parts[0]).is_symlink()


def corpus_files(corpus: Path) -> list[Path]:
    """Return all files of a raw corpus that are read, in the order of its parts; the digest covers these."""
    return [path for part in sorted(corpus.iterdir()) for path in part_files(part)]


def part_files(part: Path) -> list[Path]:
    """Return the files of a part that are read: the known ones in a folder, otherwise the part itself."""
    known = (*CONVOKIT_FILES, *STACK_EXCHANGE_FILES)
    return [part / name for name in known if (part / name).is_file()] if part.is_dir() else [part]


def check_unchanged(corpus: Path, record: Path) -> None:
    """Raise PipelineError if a linked file differs in size or modification time from its entry in `record`.

    The content is compared where only its inode has changed, as by another mode.
    """
    for name, recorded in read_files(record).items():
        path = corpus / name
        if not is_linked(corpus, name):
            continue
        if not path.is_file() or any(recorded[key] != value for key, value in file_stamp(path).items()):
            raise changed(path)
        if recorded.get(CHANGED) not in (None, source_stamp(path)[CHANGED]) and file_digest(path) != recorded["sha256"]:
            raise changed(path)


@contextmanager
def unchanged_while_read(corpus: Path) -> Iterator[None]:
    """Raise PipelineError if a file of a raw corpus changes during the block, or has changed since it was recorded.

    Within the block, a file that another one replaces, or whose content changes while its time is kept, is noticed
    by its inode and the time of that change. A corpus without a record (`record_files`) is not checked.
    """
    record = corpus.with_name(FILES)
    if not record.is_file():
        yield
        return
    check_unchanged(corpus, record)
    before = [(path, _identity(path)) for path in corpus_files(corpus)]
    yield
    for path, identity in before:
        if _identity(path) != identity:
            raise changed(path)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def changed(path: Path) -> PipelineError:
    return PipelineError(
        f"{path.resolve()} has changed since the corpus was recorded: materialize the asset raw_corpus again."
    )
