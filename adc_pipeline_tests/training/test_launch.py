"""Every configuration file of accelerate with two processes, which on a CPU talk through gloo. 40 s of a core.

What several processes learn is what one learns from the same rows.
"""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adc_pipeline.training.loop import train
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline_tests.training.processes import PRESETS, environment

pytestmark = pytest.mark.slow

# Rows of 64 whatever the number of processes, so that a step has the same ones.
SETTINGS = TrainingSettings(
    objective="awr",  # weights that differ, and a division by the tokens of all processes
    sequence_length=64,
    tokens_per_step=256,
    tokens_per_forward=64,
    max_steps=8,
    log_every=1,
    checkpoint_every=4,
    validate_every=4,
    validation_tokens=200,
)

# Accelerate offers FSDP to accelerators only; PyTorch's runs on a CPU as well. Told that its processes were GPUs', it
# goes on as it would there, but for the device, which is known by then. Each job has a process of its own, forked from
# one that has imported what they need, which is most of the time of a start. After the first job, all that came after
# its first checkpoint is moved away.
FSDP_ON_A_CPU = """
import os, runpy, sys
from pathlib import Path
import transformers.models.llama.modeling_llama
from accelerate.state import PartialState
from accelerate.utils import DistributedType
import adc_pipeline.training.loop

for number, job in enumerate(sys.argv[1:]):
    if not (child := os.fork()):
        # As a launcher counts what it starts again, so that no process reads what one before it announced.
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        sys.argv = ["adc_pipeline.training", job]
        runpy.run_module("adc_pipeline.training", run_name="__main__", alter_sys=True)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(code)
    if number == 0 and os.environ["RANK"] == "0":
        work = Path(job).parent
        for lost in (sorted((work / "checkpoints").iterdir())[-1], work.parent / "output"):
            lost.rename(work.parent / "lost" / lost.name)
"""


def job_file(job: TrainingJob) -> str:
    job.work.mkdir(parents=True, exist_ok=True)
    file = job.work / "job.json"
    file.write_text(job.to_json())
    return str(file)


def launch(config: str, *flags: str, what: list[str]) -> "subprocess.Popen[str]":
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PRESETS / config), *flags]
    # Computed in full, so that figures can be compared; the files' bfloat16 is for GPUs.
    command = [*launcher, "--mixed_precision", "no", *what]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(OMP_NUM_THREADS="1")
    )


def finished(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def job_in(folder: Path, dataset: Path, model: Path, settings: TrainingSettings = SETTINGS) -> TrainingJob:
    return TrainingJob(settings, dataset, model, folder / "output", folder / "work")


def figures(job: TrainingJob) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (job.work / "metrics.jsonl").read_text().splitlines()]
    measured = ("time", "tokens_per_second", "memory_bytes")
    return [{name: value for name, value in line.items() if name not in measured} for line in lines]


def weights(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(job.output / "model.safetensors")


@pytest.fixture(scope="module")
def alone(small_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    job = job_in(tmp_path_factory.mktemp("alone"), dataset, small_model)
    train(job)
    return job


def check_same(job: TrainingJob, alone: TrainingJob) -> None:
    assert json.loads((job.output / "training.json").read_text())["processes"] == 2
    assert len(figures(job)) == 8
    for ours, theirs in zip(figures(job), figures(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    expected = weights(alone)
    found = weights(job)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_data_parallel(alone: TrainingJob, tmp_path: Path) -> None:
    job = job_in(tmp_path, alone.dataset, alone.base_model)
    what = ["-m", "adc_pipeline.training", job_file(job)]
    finished(launch("multi_gpu.yaml", "--main_process_port", free_port(), what=what))
    check_same(job, alone)


def test_several_machines(alone: TrainingJob, tmp_path: Path) -> None:
    job = job_in(tmp_path, alone.dataset, alone.base_model)
    what, port = ["-m", "adc_pipeline.training", job_file(job)], free_port()
    flags = ("--num_processes", "2", "--main_process_port", port, "--machine_rank")
    for machine in [launch("multi_machine.yaml", *flags, rank, what=what) for rank in ("0", "1")]:
        finished(machine)
    check_same(job, alone)


def test_sharded_weights_and_checkpoints_and_a_fault_that_is_one_sentence(alone: TrainingJob, tmp_path: Path) -> None:
    script, lost = tmp_path / "fsdp_on_a_cpu.py", tmp_path / "lost"
    script.write_text(FSDP_ON_A_CPU)
    lost.mkdir()
    job = job_in(tmp_path, alone.dataset, alone.base_model)
    faulty = job_in(tmp_path / "faulty", alone.dataset, alone.base_model, replace(SETTINGS, lora_rank=2))
    # To the end; again, as if it had been killed after the first checkpoint; and with a fault.
    what = [str(script), job_file(job), job_file(job), job_file(faulty)]
    process = launch("fsdp.yaml", "--main_process_port", free_port(), what=what)
    said, _ = process.communicate(timeout=300)
    assert "Resuming after step 4 of 8" in said, said
    check_same(job, alone)
    checkpoints = job.work / "checkpoints"
    (last,) = (path for path in lost.iterdir() if path.name != "output")
    assert {path.name for path in checkpoints.iterdir()} > {last.name}
    for part in ("pytorch_model_fsdp_0", "optimizer_0"):
        assert {path.name for path in (last / part).iterdir()} >= {"__0_0.distcp", "__1_0.distcp"}
    uninterrupted = load_file(lost / "output" / "model.safetensors")
    for name, tensor in weights(job).items():
        assert torch.equal(tensor, uninterrupted[name]), name

    assert process.returncode != 0
    failure = (faulty.work / "failure.txt").read_text()
    assert failure.startswith("`lora_rank` 2 does not work with weights that FSDP shards")
