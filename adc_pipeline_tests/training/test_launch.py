"""Every configuration file of accelerate with two processes, which on a CPU talk through gloo. 50 s of two cores.

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

from adc_pipeline.training.loop.train import train
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
# goes on as it would there, but for the device, which is known by then.
FSDP_ON_A_CPU = """
import runpy, sys
from accelerate.state import PartialState
from accelerate.utils import DistributedType
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
sys.argv = ["adc_pipeline.training", sys.argv[1]]
runpy.run_module("adc_pipeline.training", run_name="__main__", alter_sys=True)
"""


def launch(job: TrainingJob, config: str, *flags: str, script: Path | None = None) -> "subprocess.Popen[str]":
    job.work.mkdir(parents=True, exist_ok=True)
    file = job.work / "job.json"
    file.write_text(job.to_json())
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PRESETS / config), *flags]
    what = ["-m", "adc_pipeline.training"] if script is None else [str(script)]
    # Computed in full, so that figures can be compared; the files' bfloat16 is for GPUs.
    command = [*launcher, "--mixed_precision", "no", *what, str(file)]
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
    finished(launch(job, "multi_gpu.yaml", "--main_process_port", free_port()))
    check_same(job, alone)


def test_several_machines(alone: TrainingJob, tmp_path: Path) -> None:
    job = job_in(tmp_path, alone.dataset, alone.base_model)
    port = free_port()
    machines = [
        launch(job, "multi_machine.yaml", "--num_processes", "2", "--machine_rank", rank, "--main_process_port", port)
        for rank in ("0", "1")
    ]
    for machine in machines:
        finished(machine)
    check_same(job, alone)


def test_sharded_weights_and_checkpoints(alone: TrainingJob, tmp_path: Path) -> None:
    script = tmp_path / "fsdp_on_a_cpu.py"
    script.write_text(FSDP_ON_A_CPU)
    job = job_in(tmp_path, alone.dataset, alone.base_model)
    finished(launch(job, "fsdp.yaml", "--main_process_port", free_port(), script=script))
    check_same(job, alone)
    first, last = sorted((job.work / "checkpoints").iterdir())
    for part in ("pytorch_model_fsdp_0", "optimizer_0"):
        assert {path.name for path in (first / part).iterdir()} >= {"__0_0.distcp", "__1_0.distcp"}

    # As if it had been killed after the first checkpoint.
    uninterrupted = weights(job)
    for lost in (last, job.output):
        lost.rename(tmp_path / lost.name)
    assert "Resuming after step 4 of 8" in finished(
        launch(job, "fsdp.yaml", "--main_process_port", free_port(), script=script)
    )
    for name, tensor in weights(job).items():
        assert torch.equal(tensor, uninterrupted[name]), name


def test_a_fault_in_several_processes_is_one_sentence(alone: TrainingJob, tmp_path: Path) -> None:
    script = tmp_path / "fsdp_on_a_cpu.py"
    script.write_text(FSDP_ON_A_CPU)
    job = job_in(tmp_path, alone.dataset, alone.base_model, replace(SETTINGS, lora_rank=2))
    process = launch(job, "fsdp.yaml", "--main_process_port", free_port(), script=script)
    process.communicate(timeout=300)
    assert process.returncode != 0
    assert (
        (job.work / "failure.txt").read_text().startswith("`lora_rank` 2 does not work with weights that FSDP shards")
    )
