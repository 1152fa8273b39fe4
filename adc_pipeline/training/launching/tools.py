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

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import named_path
from adc_pipeline.core.store.content import file_digest
from adc_pipeline.training.launching.accelerate_file import check_accelerate_config
from adc_pipeline.training.settings import TrainingSettings


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


def check_compiler() -> None:
    """Raise PipelineError where `compile` is set and no compiler is found: of C++ for a CPU, of C or C++ for a GPU."""
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
