"""Shards: a large corpus in parts that are made one after the other, or elsewhere, and never twice.

A conversation lies in exactly one shard, by a fixed hash of its id: MD5 of the id, read as a fraction of
all there are, times the number of shards. The rows of a dataset stand in the order of the same hash, so
that its shards, one behind the other, are the dataset.

A stage is a function from folders to a folder over one shard. `map_shards` calls it for each, lets a
finished shard appear in one step, and skips what an earlier, interrupted run has finished. Nothing here
knows which stage it is, so that another engine can take its place.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adc_pipeline.core.engine import Report

COUNTS = "counts.json"
Counts = dict[str, int]


def shard_names(shards: int) -> list[str]:
    """The names of the folders of so many shards: 00000-of-00002, 00001-of-00002."""
    return [f"{number:05}-of-{shards:05}" for number in range(shards)]


def shard_sql(conversation_id: str, shards: int) -> str:
    """The number of a conversation's shard, from 0, as a SQL expression over a column name."""
    return f"((('0x' || left(md5({conversation_id}), 8))::BIGINT * {shards}) >> 32)"


def shards_of(artefact: Path) -> list[Path]:
    """The folders of an artefact's shards, in their order."""
    return sorted(artefact.glob("?????-of-?????"))


def parts(folder: Path, pattern: str) -> list[str]:
    """The files of this name in a shard's folder, or in all shards of an artefact's folder, in their order."""
    here = sorted(folder.glob(pattern))
    return [str(path) for path in here or (path for shard in shards_of(folder) for path in sorted(shard.glob(pattern)))]


def map_shards(
    names: Sequence[str], make: Callable[[str, Path], Counts], out: Path, work: Path, report: Report
) -> Counts:
    """Call `make(NAME, folder)` for every shard and bring the folders to `out`; returns the counts, added up.

    `work` keeps finished shards from one call to the next; whoever owns it removes it when the stage is done.
    """
    counts: Counter[str] = Counter()
    for number, name in enumerate(names, 1):
        if len(names) > 1:
            report(f"shard {number} of {len(names)}" + (" was finished before" if (work / name).exists() else ""))
        made = whole(work / name, lambda folder, name=name: write_counts(folder, make(name, folder)))  # type: ignore[misc]
        counts.update(json.loads((made / COUNTS).read_text()))
    for name in names:
        shutil.rmtree(out / name, ignore_errors=True)
        shutil.copytree(work / name, out / name, copy_function=bring)
    return dict(counts)


def bring(path: Path | str, to: Path | str) -> None:
    """Have a file at a second place, too: what is finished stays finished until the whole stage is."""
    try:
        os.link(path, to)
    except OSError:
        # Not every file system has links.
        shutil.copyfile(path, to)


def write_counts(folder: Path, counts: Counts) -> None:
    (folder / COUNTS).write_text(json.dumps(counts, indent=2) + "\n")


def whole(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder after `make` has filled it, which it does aside and only where the folder is not there yet."""
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        make(aside)
        aside.rename(folder)
    return folder


@contextmanager
def work_folder(work: Path | None, out: Path) -> Iterator[Path]:
    """Where a stage keeps finished shards: `work`, or a folder in `out` that is gone when the block ends."""
    if work:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    aside = out / ".work"
    aside.mkdir(parents=True)
    try:
        yield aside
    finally:
        shutil.rmtree(aside)
