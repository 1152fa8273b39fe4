"""Processes on a real Ray cluster of one node: a training that is killed goes on to the same end, and is told to end.

One Ray for the module; 40 s of CPU.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from adc_pipeline.core.cluster_process import ClusterProcess
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Placement
from adc_pipeline.training.checkpoint import checkpoints
from adc_pipeline.training.process import TrainingProcess
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline_tests.test_cluster import ray_here
from adc_pipeline_tests.training.conftest import dataset, small_model
from adc_pipeline_tests.training.test_training import job_in, metrics

__all__ = ["dataset", "ray_here", "small_model"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]

THERE = Placement(executor="ray")
SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=256, max_steps=240, log_every=60, checkpoint_every=20, validate_every=0
)


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


def test_a_training_whose_worker_is_killed_goes_on_to_the_same_end(
    dataset: Path, small_model: Path, tmp_path: Path
) -> None:
    unstopped = job_in(tmp_path / "here", dataset, small_model, SETTINGS)
    TrainingProcess(unstopped, "here").wait(print)
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
    for pid in [*pids("ray::There"), *pids(f"adc_pipeline.training {job.work}")]:
        os.kill(pid, signal.SIGKILL)
    waiting.join(120)
    assert process.process.returncode == 0
    assert [line for line in lines if "was killed" in line]
    assert [line for line in lines if "was lost with its node or process" in line]
    assert (job.output / "model.safetensors").read_bytes() == (unstopped.output / "model.safetensors").read_bytes()
    assert metrics(job)[-1]["loss"] == metrics(unstopped)[-1]["loss"]


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


def test_what_no_node_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has 1 CPUs and 8 GPUs, which the resource training's settings"):
        ClusterProcess(["-c", ""], tmp_path / "log", replace(THERE, gpus=8))
