"""Shards: work on a large corpus in parts, one after the other or on several machines, and never twice.

Each conversation lies in exactly one shard, by a fixed hash of its id: the first 32 bits of MD5, read as a fraction,
times the number of shards. The rows of a dataset are ordered by the same hash, so concatenating its shards in order
gives the dataset.

A stage is a function that reads folders and fills one folder for one shard. `map_shards` calls it for each shard,
publishes a finished shard by an atomic rename, and skips shards that an earlier, interrupted run finished, unless they
were altered since (`core.store.finished`). The engine's `executor` decides where the function is called: in this
process, or as a task of a Ray cluster (`core.cluster.tasks`). A stage does not know which.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from adc_pipeline.core.atomic import atomic_folder
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.core.store.finished import finish, is_finished

COUNTS = "counts.json"
Counts = dict[str, int]
# Fills the folder of the shard of a name, with the engine that it is given. It is sent to other processes by pickle.
Make = Callable[[str, Path, Engine], Counts]


def shard_names(shards: int) -> list[str]:
    """Return the folder names of so many shards: 00000-of-00002, 00001-of-00002."""
    return [f"{number:05}-of-{shards:05}" for number in range(shards)]


def shard_sql(conversation_id: str, shards: int) -> str:
    """Return a SQL expression over a column name: the number of a conversation's shard, from 0."""
    return f"((('0x' || left(md5({conversation_id}), 8))::BIGINT * {shards}) >> 32)"


def shards_of(artefact: Path) -> list[Path]:
    """Return the folders of an artefact's shards, in order."""
    return sorted(artefact.glob("?????-of-?????"))


def parts(folder: Path, pattern: str) -> list[str]:
    """Return the files that match `pattern` in a shard's folder, or in all shards of an artefact's folder, in order."""
    here = sorted(folder.glob(pattern))
    return [str(path) for path in here or (path for shard in shards_of(folder) for path in sorted(shard.glob(pattern)))]


def map_shards(names: Sequence[str], make: Make, out: Path, work: Path, engine: Engine) -> Counts:
    """Call `make(NAME, folder, engine)` for each shard, link the folders into `out` and return the summed counts.

    `work` keeps finished shards between calls; the caller removes it when the stage is done.
    """
    make_shards(names, make, work, engine)
    counts: Counter[str] = Counter()
    for name in names:
        counts.update(read_record(work / name / COUNTS, remedy=f"remove {work}"))
        shutil.rmtree(out / name, ignore_errors=True)
        shutil.copytree(work / name, out / name, copy_function=link_or_copy)
    return dict(counts)


def make_shards(names: Sequence[str], make: Make, work: Path, engine: Engine, what: str = "shard") -> None:
    """Make each shard that `work` does not have, here or on the cluster; `what` it is called in reports and errors."""
    if engine.executor == "ray":
        from adc_pipeline.core.cluster.tasks import run_on_cluster

        run_on_cluster(names, partial(fill_shard, make), work, engine, what)
        return
    with engine.shared(work / "spill") as one:
        for number, name in enumerate(names, 1):
            if len(names) > 1:
                before = " was finished before" if is_finished(work / name) else ""
                engine.report(f"{what} {number} of {len(names)}{before}")
            build_once(work / name, partial(fill_shard, make, name, engine=one))


def fill_shard(make: Make, name: str, folder: Path, engine: Engine) -> None:
    """Fill the folder of a shard, its counts included."""
    write_counts(folder, make(name, folder, engine))


def link_or_copy(path: Path | str, to: Path | str) -> None:
    """Hard-link a file to a second path, so that it stays in the work folder; copy it where links are not supported."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def write_counts(folder: Path, counts: Counts) -> None:
    write_record(folder / COUNTS, counts)


def build_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`; unless it is finished, let `make` fill it in one step."""
    if not is_finished(folder):
        with atomic_folder(folder) as partial:
            make(partial)
        finish(folder)
    return folder


@contextmanager
def work_folder(work: Path | None, out: Path) -> Iterator[Path]:
    """Yield the folder for finished shards: `work`, or a temporary folder in `out` that is removed afterwards."""
    if work:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    temporary = out / ".work"
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary)
