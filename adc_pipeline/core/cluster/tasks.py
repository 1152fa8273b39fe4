"""Process shards as tasks of a Ray cluster, whose nodes all see the folders under the same paths.

One task makes one shard in a folder of its own, which is renamed to the shard's name: a node that seems lost may still
write while another one makes its shard again, and the first of both that is complete is kept. What a task returns is a
few numbers and lines for the log, so Ray's object store holds no data. Shards of a lost node are submitted again. A
shard that raises an error is tried three times; the others are completed before the stage fails. A `PipelineError` is
not tried again, since it depends on the input alone.

A task asks for as many CPUs as the setting `threads` says (0 asks for one: shards side by side use cores better than
threads inside a shard) and for `memory_limit` + 1 GiB of memory. DuckDB spills to the temporary folder of the node.
"""

import functools
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adc_pipeline.core.cluster.connection import ATTEMPTS, MOST_LOSSES, check_room, connected, nodes
from adc_pipeline.core.engine import SECONDS_BETWEEN_REPORTS, Engine, no_report
from adc_pipeline.core.errors import PipelineError, UnreachableError, first_line
from adc_pipeline.core.store.finished import finish, is_finished

# Fills the folder of the shard of a name, with the engine that it is given.
Fill = Callable[[str, Path, Engine], None]

# Beside DuckDB's limit: buffers of the JSON reader and the Python process.
BESIDE_LIMIT = 2**30
WAIT = 1.0


@dataclass(frozen=True)
class Made:
    """What a task returns: rows of the Parquet files it wrote, and the lines of its log."""

    rows: int
    lines: tuple[str, ...]


def run_on_cluster(names: Sequence[str], fill: Fill, work: Path, engine: Engine, what: str) -> None:
    """Make each shard that `work` does not have, as a Ray task; raise PipelineError for shards that failed."""
    work.mkdir(parents=True, exist_ok=True)
    remove_unfinished(work)
    waiting = [name for name in names if not is_finished(work / name)]
    if not waiting:
        return
    ray = connected()
    task = ray.remote(make_shard).options(max_retries=0, **resources(ray, engine))
    # The report of this process cannot be sent.
    sent = replace(engine, report=no_report)
    # Stored once, since it may name every file of a corpus.
    stored = ray.put(fill)
    began = reported = time.monotonic()
    rows, failed = 0, dict[str, BaseException]()
    attempts, losses = Counter[str](), Counter[str]()
    running: dict[Any, str] = {}

    def submit(name: str) -> None:
        running[task.remote(stored, name, work, sent)] = name

    try:
        for name in waiting:
            submit(name)
        while running:
            ready, _ = ray.wait(list(running), timeout=WAIT)
            for future in ready:
                name = running.pop(future)
                try:
                    made = ray.get(future)
                except (ray.exceptions.RayTaskError, ray.exceptions.OutOfMemoryError) as error:
                    cause = getattr(error, "cause", None) or error
                    attempts[name] += 1
                    if is_final(cause) or attempts[name] == ATTEMPTS:
                        failed[name] = cause
                        continue
                    engine.report(f"{what} {name} failed, attempt {attempts[name]} of {ATTEMPTS}: {first_line(cause)}")
                    submit(name)
                except ray.exceptions.RayError as error:
                    losses[name] += 1
                    if losses[name] == MOST_LOSSES:
                        failed[name] = error
                        continue
                    engine.report(f"{what} {name} was lost with its node or process ({type(error).__name__}): again")
                    submit(name)
                else:
                    rows += made.rows
                    for line in made.lines:
                        engine.report(f"{what} {name}: {line}")
            now = time.monotonic()
            if now - reported >= SECONDS_BETWEEN_REPORTS or not running:
                reported = now
                alive = sum(1 for node in ray.nodes() if node["Alive"])
                engine.report(
                    f"{what}s: {len(names) - len(running) - len(failed)} of {len(names)} done,"
                    f" {rows / max(now - began, 0.001):,.0f} rows a second, {alive} nodes"
                )
    finally:
        for future in running:
            with suppress(Exception):
                ray.cancel(future, force=True)
        remove_unfinished(work)
    if failed:
        raise failure(failed, len(names), what)


def remove_unfinished(work: Path) -> None:
    """Remove what tasks that were killed have left."""
    for path in work.glob(".?????-of-?????-*"):
        shutil.rmtree(path, ignore_errors=True)


def make_shard(fill: Fill, name: str, work: Path, engine: Engine) -> Made:
    """Make one shard; this runs on a node of the cluster."""
    import pyarrow.parquet as pq

    folder, partial = work / name, work / f".{name}-{uuid.uuid4().hex}"
    partial.mkdir()
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="adc-shard-") as scratch:
        there = replace(engine, report=functools.partial(_keep_finished, lines), scratch=Path(scratch))
        fill(name, partial, there)
    try:
        partial.rename(folder)
        finish(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(partial, ignore_errors=True)
    rows = sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))
    return Made(rows, tuple(lines))


def _keep_finished(lines: list[str], line: str) -> None:
    if ": done in " in line:
        lines.append(line)


def is_final(error: BaseException) -> bool:
    """Return whether another attempt would raise the same error."""
    return isinstance(error, PipelineError) and not isinstance(error, UnreachableError)


def failure(failed: dict[str, BaseException], of: int, what: str) -> PipelineError:
    """Return the error of a stage with failed shards, each with its cause."""
    named = "; ".join(f"{name}: {first_line(error)}" for name, error in sorted(failed.items())[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return PipelineError(
        f"{len(failed)} of {of} {what}s failed ({named}{more}). The other {what}s are finished and kept: correct the"
        " cause and start the same run again."
    )


def resources(ray: Any, engine: Engine) -> dict[str, float]:
    """Return what a task asks for; raise PipelineError if no node has as much, since the task would wait for ever."""
    wanted = wanted_by_task(engine)
    has = f"{wanted['CPU']:g} CPUs and {wanted['memory'] / 2**30:.1f} GiB of memory"
    settings = "the workspace's settings threads and memory_limit (+ 1 GiB)"
    check_room(ray, wanted, has, settings)
    return {"num_cpus": wanted["CPU"], "memory": wanted["memory"]}


def wanted_by_task(engine: Engine) -> dict[str, float]:
    """Return what a task needs of a node, by the names of Ray's resources."""
    return {"CPU": float(engine.threads or 1), "memory": float(memory_of(engine.memory_limit))}


def tasks_at_once(engine: Engine) -> int:
    """Return how many tasks the nodes that the cluster has now can run at a time."""
    ray = connected()
    wanted = wanted_by_task(engine)
    return sum(
        int(min(node.get(name, 0) // number for name, number in wanted.items() if number)) for node in nodes(ray)
    )


def memory_of(limit: str) -> int:
    """Return the bytes of a task under a `memory_limit` of DuckDB; a share of the machine's memory asks for 0."""
    units = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
    number, unit = limit.strip().rstrip("Bb").rstrip(), ""
    if number.endswith("%"):
        return 0
    binary = number[-1:] in "iI"
    number = number[:-1] if binary else number
    if number[-1:].upper() in units:
        number, unit = number[:-1], number[-1].upper()
    return int(float(number) * (1024 if binary else 1000) ** units[unit]) + BESIDE_LIMIT
