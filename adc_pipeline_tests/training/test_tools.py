"""What a setting needs of the machine is missed in one sentence, in the training process and before."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training import tools
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline.training.tools import check_tools

PACKAGE = Path(tools.__file__).parents[1]
COMPILED = TrainingSettings(compile=True)


@pytest.mark.slow
def test_a_training_process_without_a_compiler_ends_in_a_sentence(tmp_path: Path) -> None:
    job = TrainingJob(COMPILED, *(tmp_path / name for name in ("data", "base", "out", "work")))
    (tmp_path / "job.json").write_text(job.to_json())
    command = [sys.executable, "-m", "adc_pipeline.training", str(tmp_path / "job.json")]
    environment = os.environ | {"CXX": "/nowhere/g++", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("`compile` needs a C++ compiler, and there is no /nowhere/g++")
    assert "Traceback" not in done.stderr


def test_the_configurations_of_the_package_are_accepted() -> None:
    presets = sorted((PACKAGE / "presets" / "accelerate").glob("*.yaml"))
    assert len(presets) >= 5
    for preset in presets:
        check_tools(TrainingSettings(accelerate_config=str(preset)))


def test_a_compiler_that_is_there_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, headers = tmp_path / "g++", tmp_path / "include"
    compiler.touch(mode=0o755)
    headers.mkdir()
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(headers))
    with pytest.raises(PipelineError, match="`compile` needs Python's headers"):
        check_tools(COMPILED)
    (headers / "Python.h").touch()
    check_tools(COMPILED)


def test_adapters_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    check_tools(TrainingSettings())
    with pytest.raises(PipelineError, match="`lora_rank` needs the package peft"):
        check_tools(TrainingSettings(lora_rank=4))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        ("a: [", "give a YAML file"),
        ("[" * 10_000, "give a YAML file"),
        ("- 1", "not a mapping of names to values"),
        ("distributed_type: no\nuse_cpu: true", ""),
        ("use_cpu: true", r"refused by Accelerate \(.*`distributed_type` must be"),
        ("mixed_precision: no\ndistributed_type: MULTI_GPU\nnum_processes: 2", ""),
        (
            "distributed_type: no\ngradient_accumulation_steps: 4",
            r"refused by Accelerate \(.*gradient_accumulation_steps",
        ),
        (
            "distributed_type: no\nmixed_precision: fp8",
            "sets `mixed_precision` fp8, which does not work here; use no, bf16 or fp16",
        ),
        ("distributed_type: DEEPSPEED", "sets `distributed_type` DEEPSPEED, .*use MULTI_GPU or FSDP"),
        (
            "distributed_type: no\ndynamo_config: {dynamo_backend: INDUCTOR}",
            "sets `dynamo_backend` INDUCTOR, .*the setting `compile`",
        ),
    ],
)
def test_the_configuration_of_accelerate_has_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, sentence: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = replace(TrainingSettings(), accelerate_config="~/accelerate.yaml")
    if content is not None:
        (tmp_path / "accelerate.yaml").write_text(content)
    if not sentence:
        return check_tools(settings)
    with pytest.raises(PipelineError, match=sentence):
        check_tools(settings)
