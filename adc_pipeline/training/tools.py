"""Check what the settings of a training need of the machine: a file, a package, a compiler.

The pipeline checks this at the start of a run, and the training process before it loads a model, since it may run on
another machine.
"""

import os
import shutil
import sys
import sysconfig
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adc_pipeline.core.content import file_digest
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.named_files import check_file, named_path, read_mapping
from adc_pipeline.training.settings import TrainingSettings

# What may stand in a configuration of Accelerate, in small letters, and what to use in place of anything else.
WORKING: dict[str, tuple[tuple[str, ...], str]] = {
    "distributed_type": (
        ("no", "fsdp", *(f"multi_{kind}" for kind in ("cpu", "gpu", "xpu", "npu", "mlu", "musa", "sdaa", "hpu"))),
        "MULTI_GPU or FSDP",
    ),
    "mixed_precision": (("no", "bf16", "fp16"), "no, bf16 or fp16"),
    "dynamo_backend": (("no",), "the setting `compile`"),
}


def check_tools(settings: TrainingSettings) -> None:
    """Raise PipelineError if something is missing that these settings need."""
    if settings.lora_rank and find_spec("peft") is None:
        raise PipelineError("`lora_rank` needs the package peft; install it, or set `lora_rank` to 0.")
    if settings.accelerate_config:
        check_accelerate_config(named_path(settings.accelerate_config))
    if settings.compile:
        check_compiler()


def files_of(settings: TrainingSettings) -> dict[str, Any]:
    """Return the SHA-256 of each file that the settings name, by setting; None for one that cannot be read."""
    if not settings.accelerate_config:
        return {}
    digest = None
    with suppress(OSError):
        digest = file_digest(named_path(settings.accelerate_config))
    return {"accelerate_config": digest}


def check_accelerate_config(path: Path) -> None:
    """Raise PipelineError unless a file is a configuration of Accelerate, JSON or YAML."""
    check_file(path, "accelerate_config")
    values = read_mapping(path)
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        # The launcher does the same, and ends in a stack trace.
        load_config_from_file(str(path))
    except Exception as error:
        raise PipelineError(
            f"`accelerate_config` {path} is refused by Accelerate ({first_line(error)}); write it with `accelerate"
            " config`."
        ) from error
    dynamo = values.get("dynamo_config")
    chosen = {**values, "dynamo_backend": dynamo.get("dynamo_backend") if isinstance(dynamo, dict) else None}
    for name, (works, instead) in WORKING.items():
        # A bare `no` is false in YAML.
        value = "no" if chosen.get(name) in (None, False) else str(chosen[name])
        if value.lower() not in works:
            raise PipelineError(
                f"`accelerate_config` {path} sets `{name}` {value}, which does not work here; use {instead}."
            )


def check_compiler() -> None:
    """Raise PipelineError if torch.compile finds no compiler: of C++ for a CPU, of C or C++ for a GPU."""
    cxx = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(cxx) is None:
        import torch

        if not torch.cuda.is_available() or not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
            raise PipelineError(
                f"`compile` needs a C++ compiler, and there is no {cxx}; install one (such as the package g++), name"
                " one in the environment variable CXX, or set `compile` to false."
            )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise PipelineError(
            f"`compile` needs Python's headers, and there is no {header}; install them (such as the package"
            " python3-dev), or set `compile` to false."
        )
