"""Judge a configuration file of Accelerate before a run: names, types and values, as its launcher would use them.

The launcher looks at little of it. A wrong number ends in its stack trace, after hours of other assets, and a misspelt
name below `fsdp_config`, or a block for another kind of training, is passed over without a word.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError, did_you_mean, first_line
from adc_pipeline.core.named_files import check_file, read_mapping
from adc_pipeline.core.settings import Settings, as_shown, declared, setting

KINDS = ("NO", "FSDP", *(f"MULTI_{kind}" for kind in ("CPU", "GPU", "XPU", "NPU", "MLU", "MUSA", "SDAA", "HPU")))
# What may not be set, and what to use in its place.
BLOCKS = {
    "deepspeed_config": "FSDP",
    "megatron_lm_config": "FSDP",
    "parallelism_config": "FSDP",
    "fp8_config": "bf16 as `mixed_precision`",
}
# What earlier versions of Accelerate wrote, which it still reads.
EARLIER = ("fp16", "dynamo_backend")
GPUS = re.compile(r"all|{id}(,{id})*".format(id=r" *(\d+|(GPU|MIG)-[\w/-]+) *"))


@dataclass(frozen=True)
class AccelerateFile(Settings):
    """The values of such a file that this package's trainings depend on."""

    compute_environment: str = setting("LOCAL_MACHINE", "Where it runs.", choices=("LOCAL_MACHINE",))
    distributed_type: str = setting("NO", "How the devices share the work.", choices=KINDS)
    mixed_precision: str = setting("no", "Precision of the forward pass.", choices=("no", "bf16", "fp16"))
    num_processes: int = setting(1, "Processes on all machines.", minimum=1)
    num_machines: int = setting(1, "Machines.", minimum=1)
    machine_rank: int = setting(0, "Which of the machines this one is.", minimum=0)
    gpu_ids: str = setting("all", "GPUs of this machine.")
    main_process_ip: str | None = setting(None, "Address of the machine of rank 0.")
    main_process_port: int | None = setting(None, "Its port.", minimum=0, maximum=65_535)
    rdzv_backend: str = setting("static", "How the machines find each other.")
    same_network: bool = setting(False, "Whether they are in one network.")
    use_cpu: bool = setting(False, "Whether no GPU is used.")
    debug: bool = setting(False, "Whether Accelerate checks its own operations.")
    enable_cpu_affinity: bool = setting(False, "Whether each process has cores of its own.")

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = self.gpu_ids.split(",")
        if not GPUS.fullmatch(self.gpu_ids):
            raise PipelineError(f"`gpu_ids` is {as_shown(self.gpu_ids)}; use all, or numbers such as '0,1'.")
        if self.machine_rank >= self.num_machines:
            raise PipelineError(
                f"`machine_rank` is {self.machine_rank} and `num_machines` {self.num_machines}; use 0 to"
                f" {self.num_machines - 1}."
            )
        if self.num_machines > 1 and not self.main_process_ip:
            raise PipelineError("`num_machines` is more than 1; give the address of the first as `main_process_ip`.")
        if self.gpu_ids != "all" and self.num_machines == 1 and not self.use_cpu and len(ids) < self.num_processes:
            raise PipelineError(
                f"`gpu_ids` is {as_shown(self.gpu_ids)} for {self.num_processes} processes; give an id for each, or use"
                " all."
            )


def check_accelerate_config(path: Path) -> None:
    """Raise PipelineError unless a file is a configuration of Accelerate, JSON or YAML, that works here."""
    check_file(path, "accelerate_config")
    values = read_mapping(path)
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    try:
        check_values(values, [*(each.name for each in fields(ClusterConfig)), *EARLIER])
    except PipelineError as error:
        raise PipelineError(f"`accelerate_config` {path}: {error}") from error
    try:
        # The launcher does the same, and ends in a stack trace.
        load_config_from_file(str(path))
    except Exception as error:
        raise PipelineError(
            f"`accelerate_config` {path} is refused by Accelerate ({first_line(error)}); write it with `accelerate"
            " config`."
        ) from error


def check_values(values: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise PipelineError for a name that Accelerate does not know, and for a value that does not work."""
    refuse_unknown(values, known, "no setting of Accelerate's")
    if values.get("distributed_type") is None:
        raise PipelineError("it has no `distributed_type`; use NO, MULTI_GPU or FSDP.")
    given = {name: value for name, value in values.items() if name in declared(AccelerateFile) and value is not None}
    # A bare `no` is false in YAML.
    given |= {name: "no" for name in ("distributed_type", "mixed_precision") if given.get(name) is False}
    if given["distributed_type"] == "no":
        given["distributed_type"] = "NO"
    if isinstance(given.get("mixed_precision"), str):
        given["mixed_precision"] = given["mixed_precision"].lower()
    file = AccelerateFile(**given)
    if file.distributed_type != "NO" and "num_processes" not in given:
        raise PipelineError(
            f"`distributed_type` is {file.distributed_type}; give `num_processes`, one for each device."
        )
    for block in [name for name in known if name.endswith("_config")]:
        if values.get(block) and not isinstance(values[block], Mapping):
            raise PipelineError(f"`{block}` is {as_shown(values[block])}; use a mapping of names to values.")
        if values.get(block) and block in BLOCKS:
            raise PipelineError(f"`{block}` does not work here; remove it, and use {BLOCKS[block]}.")
    dynamo = (values.get("dynamo_config") or {}).get("dynamo_backend") or values.get("dynamo_backend") or "no"
    if str(dynamo).lower() != "no":
        raise PipelineError(
            f"`dynamo_backend` is {as_shown(dynamo)}, which does not work here; use the setting `compile`."
        )
    if file.distributed_type == "FSDP":
        check_fsdp(values.get("fsdp_config") or {})


def check_fsdp(values: Mapping[str, Any]) -> None:
    """Raise PipelineError for a name or a value below `fsdp_config` that Accelerate would pass over or fail at."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import constants

    given = {name if str(name).startswith("fsdp") else f"fsdp_{name}": value for name, value in values.items()}
    known = [action.dest for action in launch_command_parser()._actions if action.dest.startswith("fsdp_")]
    refuse_unknown(given, known, "no setting of `fsdp_config`")
    version = str(given.get("fsdp_version", 1))
    strategies = [*constants.FSDP_SHARDING_STRATEGY, *map(str, range(1, len(constants.FSDP_SHARDING_STRATEGY) + 1))]
    choices = {
        "fsdp_version": ["1", "2"],
        "fsdp_sharding_strategy": strategies,
        "fsdp_auto_wrap_policy": constants.FSDP_AUTO_WRAP_POLICY,
        "fsdp_state_dict_type": constants.FSDP2_STATE_DICT_TYPE if version == "2" else constants.FSDP_STATE_DICT_TYPE,
    }
    for name, accepted in choices.items():
        if given.get(name) is not None and str(given[name]).upper() not in accepted:
            raise PipelineError(
                f"`{name}` is {as_shown(given[name])}; use one of {', '.join(accepted)}"
                f"{did_you_mean(given[name], accepted)}."
            )


def refuse_unknown(values: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Raise PipelineError for the names among `values` that are not known, each with the nearest that is."""
    if unknown := [f"{name}{did_you_mean(name, known)}" for name in values if name not in known]:
        raise PipelineError(f"{', '.join(unknown)} is {what}; correct the name, or remove it.")
