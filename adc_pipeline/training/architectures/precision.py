"""The type in which the weights of a model are stored: that of the checkpoint that it comes from.

Training has float32 weights whatever the checkpoint has. What is written goes back to the checkpoint's type, so that a
model of bfloat16 does not take twice its room.
"""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.weight_files import location_options

# The types of half precision in a safetensors file.
HALF = {"BF16": torch.bfloat16, "F16": torch.float16}


def stored_type(source: str, **options: Any) -> torch.dtype:
    """Return the type of a checkpoint's weights: what its configuration names, or that of most numbers in its files.

    It is float32 for a type that training does not know.
    """
    from transformers import AutoConfig
    from transformers.utils.hub import cached_file

    named = AutoConfig.from_pretrained(source, **options).dtype
    if named is None:
        named = type_in_files(Path(cached_file(source, "config.json", **location_options(options)) or "").parent)
    return named if named in (torch.bfloat16, torch.float16) else torch.float32


def type_in_files(folder: Path) -> torch.dtype | None:
    """Return the type of most numbers in the weights of a folder; None if it has no files that can be read."""
    from safetensors import safe_open

    numbers = Counter[torch.dtype]()
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # a handle of files, which is no dict
                part = file.get_slice(name)
                numbers[HALF.get(part.get_dtype(), torch.float32)] += math.prod(part.get_shape())
    for path in [] if numbers else sorted(folder.glob("pytorch_model*.bin")):
        for tensor in torch.load(path, map_location="meta", weights_only=True).values():
            numbers[tensor.dtype] += tensor.numel()
    return numbers.most_common(1)[0][0] if numbers else None


def convert(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Convert a model's weights in place. Those that came in this type are as they came.

    Those that transformers keeps in float32 whatever the type, such as the routers of DeepSeek V3, stay in float32.
    Raises PipelineError if finite weights are infinite in float16, which holds nothing above 65,504.
    """
    finite = dtype != torch.float16 or broken_tensor(model) is None
    kept = {name: tensor for name, tensor in model.state_dict().items() if in_float32(model, name, dtype)}
    model.to(dtype)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in kept:
            tensor.data = kept[name]
    if dtype == torch.float16 and finite and (broken := broken_tensor(model)):
        raise PipelineError(
            f"Weights of the model are too large for float16 ({broken}), the type that its checkpoint names; set"
            " `precision` of the base model to float32."
        )


def in_float32(model: torch.nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Return whether transformers loads a tensor of a model in float32 where the others have the type `dtype`."""
    parts = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ()) if dtype in HALF.values() else set()
    if dtype == torch.float16:
        parts |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    return any(re.search(re.escape(part).replace(r"\*", ".*"), name) for part in parts)


def broken_tensor(model: torch.nn.Module) -> str | None:
    """Return the name of a weight that is not finite, if there is one: a parameter, or a buffer that is saved.

    A buffer may be infinite: a bound that does not bind, as those of Gemma 4's linear layers, or a mask.
    """
    learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}

    def is_broken(name: str, tensor: torch.Tensor) -> bool:
        return not bool(tensor.isfinite().all()) if name in learned else bool(tensor.isnan().any())

    return next((name for name, tensor in model.state_dict().items() if is_broken(name, tensor)), None)
