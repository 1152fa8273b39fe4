"""What a setting needs of the machine is missed in one sentence, in the training process and before."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.launching import tools
from adc_pipeline.training.launching.tools import check_tools
from adc_pipeline.training.settings import TrainingJob, TrainingSettings

PACKAGE = Path(tools.__file__).parents[2]
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


FSDP = "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        ("a: [", "give a YAML file"),
        ("[" * 10_000, "give a YAML file"),
        ("- 1", "not a mapping of names to values"),
        ("distributed_type: no\nuse_cpu: true", ""),
        ("", "has no `distributed_type`; use NO"),
        ("use_cpu: true", "has no `distributed_type`; use NO"),
        ("mixed_precision: no\ndistributed_type: MULTI_GPU\nnum_processes: 2", ""),
        ("distributed_type: no\ngradient_accumulation_steps: 4", "gradient_accumulation_steps is no setting of Acc"),
        ("distributed_type: no\nnum_proceses: 1", r"num_proceses \(did you mean num_processes\?\) is no setting"),
        ("distributed_type: no\nmixed_precision: fp8", "`mixed_precision` is 'fp8'; use one of no, bf16, fp16"),
        ("distributed_type: DEEPSPEED", "`distributed_type` is 'DEEPSPEED'; use one of NO, FSDP"),
        ("distributed_type: multi_gpu", r"'multi_gpu'; use one of .* \(did you mean MULTI_GPU\?\)"),
        ("distributed_type: MULTI_GPU", "give `num_processes`, one for each device"),
        ("distributed_type: MULTI_GPU\nnum_processes: two", "`num_processes` is 'two'; use a whole number"),
        ("distributed_type: MULTI_GPU\nnum_processes: 0", "`num_processes` is 0; use 1 or more"),
        ("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: [0, 1]", r"`gpu_ids` is \[0, 1\]; use a text"),
        ("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: a", "use all, or numbers such as '0,1'"),
        ("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: '0'", "'0' for 2 processes; give an id for each"),
        ("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: 0, 1", ""),
        ("distributed_type: no\nmachine_rank: 1", "`machine_rank` is 1 and `num_machines` 1; use 0 to 0"),
        ("distributed_type: no\nnum_machines: 2", "give the address of the first as `main_process_ip`"),
        ("distributed_type: no\nmain_process_port: 99999", "`main_process_port` is 99999; use 0 to 65,535"),
        ("distributed_type: no\nuse_cpu: 'no'", "`use_cpu` is 'no'; use true or false"),
        (
            "distributed_type: no\ndeepspeed_config: {zero_stage: 3}",
            "`deepspeed_config` does not work here; remove it, and use FSDP",
        ),
        ("distributed_type: no\ndeepspeed_config: {}\ndowncast_bf16: 'no'", ""),
        ("distributed_type: no\nfsdp_config: 1", "`fsdp_config` is 1; use a mapping"),
        (f"{FSDP} {{fsdp_sharding_stratgy: 1}}", r"\(did you mean fsdp_sharding_strategy\?\) is no setting of `fsdp_"),
        (f"{FSDP} {{auto_wrap_policy: none}}", "`fsdp_auto_wrap_policy` is 'none'; use one of TRANSFORMER_BASED"),
        (f"{FSDP} {{fsdp_version: 2, fsdp_state_dict_type: LOCAL_STATE_DICT}}", "use one of SHARDED_STATE_DICT, FULL"),
        (f"{FSDP} {{fsdp_version: 2, reshard_after_forward: true}}", ""),
        ("distributed_type: no\ndynamo_config: {dynamo_backend: INDUCTOR}", "'INDUCTOR', .*the setting `compile`"),
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
