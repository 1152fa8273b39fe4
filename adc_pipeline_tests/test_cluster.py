"""Shards and trainings on a real Ray cluster of one node.

Shards: same bytes, nothing made twice, failed ones named. A training that is killed goes on to the same end, and ends
if it is told to. One Ray for all, since two that start at once can fail; about a minute of CPU. What needs several
nodes is in `python -m deploy.cluster`.
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from threading import Thread

import pytest

from adc_pipeline.core.cluster.process import ClusterProcess
from adc_pipeline.core.cluster.tasks import memory_of
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.shards import Counts, map_shards, shard_names, shards_of
from adc_pipeline.corpus import changes, readings
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES
from adc_pipeline.corpus.readers import json_lines
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.training.launching.process import TrainingProcess
from adc_pipeline.training.loop.checkpoint import checkpoints
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline_tests.corpus.test_changes import build, content, drawn_months
from adc_pipeline_tests.training.conftest import dataset, small_model
from adc_pipeline_tests.training.test_training import job_in, metrics

__all__ = ["dataset", "small_model"]

THERE = Placement(executor="ray")
TRAINING = TrainingSettings(
    sequence_length=64, tokens_per_step=256, max_steps=240, log_every=60, checkpoint_every=20, validate_every=0
)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    before = {name: os.environ.get(name) for name in ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "HOME")}
    # Paths of sockets have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        # Ray writes the token of its cluster into the home folder.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "HOME": folder}
        ray.init(num_cpus=1, include_dashboard=False, object_store_memory=80_000_000, _temp_dir=folder)
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        try:
            yield
        finally:
            ray.shutdown()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def engine(executor: str, lines: list[str] | None = None) -> Engine:
    report = (lines if lines is not None else []).append
    return Engine(threads=1, memory_limit="500MB", executor=executor, report=report)  # type: ignore[arg-type]


def datasets(corpus: Path, out: Path, engine: Engine) -> dict[str, bytes]:
    write_utterances(corpus, out / "utterances", UtteranceSettings(shards=3), engine)
    write_ranked_replies(out / "utterances", out / "ranked", engine=engine)
    write_walks("top-2", out / "utterances", out / "ranked", out / "walks", engine=engine)
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_the_cluster_writes_the_bytes_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").mkdir()
    write_sample(tmp_path / "corpus", conversations=60)
    # Large enough to be read in parts.
    monkeypatch.setattr(json_lines, "CHUNK", (tmp_path / "corpus" / UTTERANCES).stat().st_size // 3)
    lines: list[str] = []
    here = datasets(tmp_path / "corpus", tmp_path / "here", engine("local"))
    there = datasets(tmp_path / "corpus", tmp_path / "there", engine("ray", lines))
    assert here == there
    assert len([name for name in here if fnmatch(name, "utterances/00000-of-00003/utterances-*.parquet")]) == 3
    assert any("shards: 3 of 3 done" in line and "rows a second, 1 nodes" in line for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_an_update_on_the_cluster_writes_the_bytes_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_CHANGED", 0.99)
    # Small files are read together.
    monkeypatch.setattr(readings, "SMALL_FILE", 0)
    draw = random.Random(5)
    months = drawn_months(draw)
    counts = build(tmp_path / "old", months, 3)
    months |= {"RC_50.jsonl": drawn_months(draw)["RC_01.jsonl"]}
    here = build(tmp_path / "here", months, 3)
    assert build(tmp_path / "there", months, 3, (tmp_path / "old", counts), engine("ray")) == here
    assert (tmp_path / "there" / "ranked" / changes.SINCE).exists()
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_failed_shard_is_named_after_three_attempts_and_the_others_are_kept(tmp_path: Path) -> None:
    """The second shard fails at its first three attempts; the first one's process dies once, which is no failure."""
    names, out, work, log = shard_names(4), tmp_path / "out", tmp_path / "work", tmp_path / "log"
    out.mkdir()
    log.mkdir()

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        tried = len(list(log.glob(f"{name}-*")))
        (log / f"{name}-{tried}").touch()
        (folder / "data").write_text("half")
        if name == names[0] and not tried:
            os._exit(1)
        if name == names[1] and tried < 3:
            raise ValueError("no such luck")
        (folder / "data").write_text(name)
        return {"rows": 1}

    def attempts() -> list[int]:
        return [len(list(log.glob(f"{name}-*"))) for name in names]

    with pytest.raises(PipelineError, match=rf"1 of 4 shards failed \({names[1]}: no such luck\)"):
        map_shards(names, make, out, work, engine("ray"))
    assert attempts() == [2, 3, 1, 1]
    assert [path.name for path in shards_of(work)] == [names[0], names[2], names[3]]
    assert map_shards(names, make, out, work, engine("ray")) == {"rows": 4}
    assert attempts() == [2, 4, 1, 1]
    assert [(path / "data").read_text() for path in shards_of(out)] == names


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_sentence_of_the_pipeline_is_not_tried_again(tmp_path: Path) -> None:
    def make(name: str, folder: Path, engine: Engine) -> Counts:
        with (tmp_path / "log").open("a") as log:
            log.write("tried\n")
        raise PipelineError("The corpus is empty.")

    with pytest.raises(PipelineError, match=r"1 of 1 shards failed \(.*The corpus is empty\)"):
        map_shards(shard_names(1), make, tmp_path / "out", tmp_path / "work", engine("ray"))
    assert (tmp_path / "log").read_text() == "tried\n"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_more_than_any_node_has_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="No node of the Ray cluster has 999 CPUs"):
        map_shards(shard_names(1), fill, tmp_path / "out", tmp_path / "work", Engine(threads=999, executor="ray"))


def fill(name: str, folder: Path, engine: Engine) -> Counts:
    return {}


def test_without_an_address_the_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PipelineError, match="RAY_ADDRESS is not set"):
        map_shards(shard_names(1), fill, tmp_path / "out", tmp_path / "work", Engine(executor="ray"))


@pytest.mark.parametrize(
    ("limit", "size"),
    [("4GB", 4e9), ("500MiB", 500 * 2**20), ("1.5 G", 1.5e9), ("2tb", 2e12), ("300K", 3e5), ("50%", None)],
)
def test_a_task_asks_for_its_memory_limit_and_a_gibibyte(limit: str, size: float | None) -> None:
    assert memory_of(limit) == (0 if size is None else int(size) + 2**30)


def until(what: Callable[[], object], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


def pids(command: str) -> list[int]:
    """Return the processes whose command line has some words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_training_whose_worker_is_killed_goes_on_to_the_same_end(
    dataset: Path, small_model: Path, tmp_path: Path
) -> None:
    unstopped = job_in(tmp_path / "here", dataset, small_model, TRAINING)
    train(unstopped)
    job = replace(unstopped, output=tmp_path / "there" / "output", work=tmp_path / "there" / "work")
    process, lines = TrainingProcess(job, "there", THERE), list[str]()
    waiting = Thread(target=process.wait, args=(lines.append,), daemon=True)
    waiting.start()
    until(lambda: checkpoints(job.work))
    # The training itself, then the actor that started it with the training.
    (training,) = pids(f"adc_pipeline.training {job.work}")
    os.kill(training, signal.SIGKILL)
    saved = checkpoints(job.work)[-1]
    until(lambda: checkpoints(job.work)[-1] > saved)
    for pid in [*pids("ray::ProcessActor"), *pids(f"adc_pipeline.training {job.work}")]:
        os.kill(pid, signal.SIGKILL)
    waiting.join(120)
    assert process.process.returncode == 0
    assert [line for line in lines if "was killed" in line]
    assert [line for line in lines if "was lost with its node or process" in line]
    assert (job.output / "model.safetensors").read_bytes() == (unstopped.output / "model.safetensors").read_bytes()
    assert metrics(job)[-1]["loss"] == metrics(unstopped)[-1]["loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_what_is_told_to_end_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    script = "import time\nprint('begun', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('saved')"
    process = ClusterProcess(["-c", script], log, THERE)
    until(log.read_text)
    assert process.poll() is None
    # The only CPU is taken.
    waiting = ClusterProcess(["-c", "print('never')"], tmp_path / "other", THERE)
    waiting.terminate()
    assert waiting.wait(5) == -signal.SIGINT
    process.terminate()
    assert process.wait(10) == 0
    assert log.read_text() == "begun\nsaved\n"
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_what_no_node_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has 1 CPUs and 8 GPUs, which the resource training's settings"):
        ClusterProcess(["-c", ""], tmp_path / "log", replace(THERE, gpus=8))
