"""Reuse what was read of the source files that have not changed since the last version of the rows.

A version of the artefact `utterances` records which of its files came from which task, by a key of all that the task
depends on: the content of the source files, their names, and the settings of reading. The rows of a task do not depend
on the files before it (`corpus.tables.FROM`), so the next version links them. Only files that are new or have changed
are read: a month that is added costs the reading of a month.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.atomic import atomic_folder
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import link_or_copy, shard_names, write_counts
from adc_pipeline.core.store.finished import finish, is_finished
from adc_pipeline.corpus.keys import Keys
from adc_pipeline.corpus.opening.recorded_files import FILES, part_files, read_files
from adc_pipeline.corpus.opening.remote import RemoteFile
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings

if TYPE_CHECKING:
    from adc_pipeline.corpus.readings import Reading

# Beside the shards of a version: the pieces of each task, as [number, rows], and its records, by the task's key.
KEPT = "kept.json"
# Settings of `raw_corpus` and `utterances` by which rows are read.
READ_BY = (("format", "columns"), ("decode_entities", "shards"))


def keys(readings: "Sequence[Reading]", corpus: Path, source: CorpusSettings, settings: UtteranceSettings) -> list[str]:
    """Return the key of each task; empty where the content of its files is not recorded."""
    record = corpus.with_name(FILES)
    hashes = {name: entry["sha256"] for name, entry in read_files(record).items()} if record.is_file() else {}
    of_source, of_rows = asdict(source), asdict(settings)
    by = [[of_source[name] for name in READ_BY[0]], [of_rows[name] for name in READ_BY[1]]]
    return [key(reading, corpus, hashes, by) for reading in readings]


def key(reading: "Reading", corpus: Path, hashes: Mapping[str, str], by: Any) -> str:
    found: list[Any] = []
    for part in reading.parts:
        if isinstance(part.path, RemoteFile):
            found.append([part.name, [part.path.address, *part.path.state()]])
            continue
        names = [str(path.relative_to(corpus)) for path in part_files(part.path)] if part.path != corpus else []
        if not names or any(name not in hashes for name in names):
            return ""
        found.append([part.name, [hashes[name] for name in names]])
    content = json.dumps([found, reading.namespace, reading.begin, reading.end, by], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def restore(keys: Sequence[str], previous: Path, shards: int, work: Path) -> int:
    """Put what the version `previous` has of some tasks into `work`, as if they were finished; return how many."""
    kept: dict[str, Any] = {}
    with suppress(PipelineError):
        kept = read_record(previous / KEPT, tasks=dict)["tasks"] if (previous / KEPT).is_file() else {}
    files = {(path.parent.name, path.name[: len("utterances-00000")]): path for path in previous.glob("*/utterances-*")}
    restored = 0
    for task, key in zip(shard_names(len(keys)), keys, strict=True):
        if key not in kept or is_finished(work / task):
            continue
        with atomic_folder(work / task) as folder:
            for place, (number, rows) in enumerate(kept[key]["pieces"]):
                piece = folder / f"{place:05}-{rows}"
                piece.mkdir()
                for name in shard_names(shards):
                    if path := files.get((name, f"utterances-{number:05}")):
                        link_or_copy(path, piece / f"{name}.parquet")
            write_counts(folder, {"records": kept[key]["records"]})
        finish(work / task)
        restored += 1
    return restored


def record(keys: Sequence[str], pieces: Sequence[Sequence[tuple[int, int]]], records: Sequence[int], out: Path) -> None:
    """Write what `restore` reads, for each task with a key its pieces and its records, and the number of all pieces."""
    kept = {
        key: {"pieces": list(made), "records": number}
        for key, made, number in zip(keys, pieces, records, strict=True)
        if key
    }
    total = sum(map(len, pieces))
    (out / KEPT).write_text(json.dumps({"tasks": kept, "pieces": total}, allow_nan=False) + "\n")


def record_trees(rows: Path, keys: Keys, adopt_roots: bool, out: Path) -> None:
    """Write the record of the folder `rows` with what decides the trees besides the rows (`corpus.changes`)."""
    kept = read_record(rows / KEPT) | {"keys": asdict(keys), "adopt_roots": adopt_roots}
    (out / KEPT).write_text(json.dumps(kept, allow_nan=False) + "\n")
