"""Size, modification time and SHA-256 of every file of a raw corpus, and the digest of the corpus.

A raw corpus links to the files on disk instead of copying them, so later stages compare each linked file with this
record before they read it. A file whose size and time are those of the last record is not hashed again: hashing
reads every byte of a corpus that may fill the disk.
"""

import json
from pathlib import Path
from typing import Any

from adc_pipeline.core.artefacts import combined_digest, file_digest
from adc_pipeline.core.errors import PipelineError

# The files of a ConvoKit corpus; any other file in its folder is not read.
CONVOKIT_FILES = ("conversations.json", "corpus.json", "index.json", "speakers.json", "users.json", "utterances.jsonl")


def record_files(corpus: Path, record: Path, previous: Path | None = None) -> str:
    """Write size, time and SHA-256 of each file of the parts in `corpus` to `record`; return the corpus' digest.

    `previous` is the corpus folder of the last version, with its own record beside it: a linked file with the same
    size and time keeps the hash from there.
    """
    known = {} if previous is None else _recorded_links(previous)
    files: dict[str, dict[str, Any]] = {}
    for path in corpus_files(corpus):
        stamp, last = file_stamp(path), known.get(path.resolve(), {})
        same = last.items() >= stamp.items()
        files[str(path.relative_to(corpus))] = stamp | {"sha256": last["sha256"] if same else file_digest(path)}
    record.write_text(json.dumps(files, indent=2) + "\n")
    return combined_digest((name, str(entry["sha256"])) for name, entry in files.items())


def _recorded_links(corpus: Path) -> dict[Path, dict[str, Any]]:
    """Return the recorded entries of the linked parts of a raw corpus, by the path that each link resolves to."""
    files: dict[str, dict[str, Any]] = json.loads((corpus.parent / "files.json").read_text())
    return {
        (corpus / name).resolve(): entry for name, entry in files.items() if (corpus / Path(name).parts[0]).is_symlink()
    }


def corpus_files(corpus: Path) -> list[Path]:
    """Return all files of a raw corpus that are read, in the order of its parts; the digest covers these."""
    return [path for part in sorted(corpus.iterdir()) for path in part_files(part)]


def part_files(part: Path) -> list[Path]:
    """Return the files of a part that are read: ConvoKit's in a folder, otherwise the part itself."""
    return [part / name for name in CONVOKIT_FILES if (part / name).is_file()] if part.is_dir() else [part]


def check_unchanged(corpus: Path, record: Path) -> None:
    """Raise PipelineError if a linked file differs in size or time from its entry in `record`."""
    for name, recorded in json.loads(record.read_text()).items():
        path = corpus / name
        if not (corpus / Path(name).parts[0]).is_symlink():
            continue
        if not path.is_file() or any(recorded[key] != value for key, value in file_stamp(path).items()):
            raise PipelineError(
                f"{path.resolve()} has changed since the corpus was recorded: materialize the asset raw_corpus again."
            )


def file_stamp(path: Path) -> dict[str, int]:
    """Return size and modification time of a file."""
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
