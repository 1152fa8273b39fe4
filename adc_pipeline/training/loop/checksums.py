"""Notice a checkpoint that was altered after it was written: torch loads files whose bits have flipped.

The archives of `torch.save` contain a checksum of each part, which torch does not look at; the shards of a model that
FSDP spreads over processes are such archives one behind the other. The record of a checkpoint has the SHA-256 of its
other files, which are small. Reading takes 1 s a gigabyte.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from adc_pipeline.core.store.content import file_digest

# The folder of a sharded model has a file by this name, which says where in which file each tensor begins.
INDEX = ".metadata"


def others(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a checkpoint that is no archive, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not zipfile.is_zipfile(path))
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def check_files(folder: Path, recorded: Mapping[str, str]) -> None:
    """Raise ValueError if a file of a checkpoint was altered; `recorded` is what `others` returned."""
    for name, digest in recorded.items():
        if file_digest(folder / name) != digest:
            raise ValueError(f"{name} was altered")
    for path in sorted(folder.rglob("*")):
        if path.name == INDEX:
            check_shards(path.parent)
        elif path.is_file() and zipfile.is_zipfile(path):
            check_archive(path, path.name)


def check_shards(folder: Path) -> None:
    """Raise ValueError if a tensor of a sharded model was altered."""
    for name, content in shards(folder):
        try:
            check_archive(io.BytesIO(content), name)
        except zipfile.BadZipFile as error:
            raise ValueError(f"a tensor in {name} was altered ({error})") from error


def shards(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the archive of each tensor of a sharded model, one at a time in memory, with the name of its file."""
    from torch.distributed.checkpoint import FileSystemReader

    for stored in FileSystemReader(folder).read_metadata().storage_data.values():
        with (folder / stored.relative_path).open("rb") as file:
            file.seek(stored.offset)
            yield stored.relative_path, file.read(stored.length)


def check_archive(file: Path | IO[bytes], name: str) -> None:
    with zipfile.ZipFile(file) as archive:
        if (wrong := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {wrong} in {name} differs")
