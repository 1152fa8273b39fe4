"""Refuse files that are not the whole, plain model that a configuration states, before or after they are loaded.

transformers takes one of two sets of weights, reads beyond a folder, takes integers for weights, and applies an adapter
that lies beside a model, all without a word. `named` is the subject of an error's sentence, `options` are those of
`from_pretrained`.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import object_in, record_text
from adc_pipeline.core.terminal import printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"
# One file of weights, and the index of the same weights in shards; transformers takes the file where both are there.
WEIGHTS = {"model.safetensors": INDEX, "pytorch_model.bin": "pytorch_model.bin.index.json"}
# The beginning of the name of a tensor in one of several layers.
LAYER = re.compile(r"(?P<layers>(?:[A-Za-z_]\w*\.)+)\d+\.")
# The types of numbers of a quantization in a safetensors file.
INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")


def refuse_adapter(source: str, named: str, **options: Any) -> None:
    """Raise PipelineError if a folder or a name on the Hub has a PEFT adapter, alone or beside a model."""
    from transformers.utils.hub import cached_file

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    if cached_file(source, ADAPTER, **location_options(options), **quiet):
        raise PipelineError(
            f"{named} contains a PEFT adapter ({ADAPTER}), which would be loaded in place of the plain model; merge the"
            " adapter into the model with PEFT's merge_and_unload and save that, or remove the adapter."
        )


def refuse_two_weights(source: str, named: str) -> None:
    """Raise PipelineError if a folder holds its weights in one file and in shards, which may be other weights."""
    for file, index in WEIGHTS.items():
        if Path(source, file).is_file() and Path(source, index).is_file():
            raise PipelineError(
                f"{named} has two sets of weights, {file} and the shards of {index}, of which only the first would be"
                " read; remove the one that is not meant."
            )


def refuse_foreign_shards(source: str, named: str) -> None:
    """Raise PipelineError if the index of a folder's weights leads out of the folder, or if shards share a tensor.

    transformers reads whole shards, so that the last of two tensors of one name would count.
    """
    index = Path(source, INDEX)
    if not index.is_file():
        return
    try:
        shards = set(object_in(record_text(index)).get("weight_map", {}).values())
    except (ValueError, AttributeError, TypeError):
        # transformers says what is wrong with it.
        return
    if foreign := sorted(shard for shard in map(str, shards) if Path(shard).is_absolute() or ".." in Path(shard).parts):
        raise PipelineError(
            f"{named} has an index of its weights, {INDEX}, that leads out of its folder ({printable(foreign[0])});"
            " save the model again, or choose another."
        )
    places: dict[str, str] = {}
    for shard in sorted(map(str, shards)):
        for tensor in tensors_in(Path(source, shard)):
            if tensor in places:
                raise PipelineError(
                    f"{named} has {printable(tensor)} in two files, {places[tensor]} and {printable(shard)}, which may"
                    " differ; save the model again, or choose another."
                )
            places[tensor] = printable(shard)


def tensors_in(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file; none if it is no such file, as its loading reports."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError):
        return []


def refuse_quantized(source: str, named: str, **options: Any) -> None:
    """Raise PipelineError if the configuration of a model states that its weights are quantized."""
    from transformers import AutoConfig

    stated = getattr(AutoConfig.from_pretrained(source, **location_options(options)), "quantization_config", None)
    if stated is not None:
        method = stated.get("quant_method") if isinstance(stated, dict) else getattr(stated, "quant_method", None)
        raise PipelineError(
            f"{named} is quantized ({method or 'no method is named'}), and such weights can be neither trained nor"
            " exported as a plain model; choose the model that it was made from."
        )


def refuse_integers(source: str, named: str, model: "PreTrainedModel", **options: Any) -> None:
    """Raise PipelineError if a weight of the model is stored as integers, which no configuration explains.

    transformers takes them for the weights themselves. The files are those that were loaded, so on the disk.
    """
    from safetensors import safe_open
    from transformers.utils.hub import cached_file

    folder = Path(cached_file(source, "config.json", **location_options(options)) or "").parent
    weights = {name for name, _ in model.named_parameters()}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in weights.intersection(file.keys()):
                if (stored := file.get_slice(name).get_dtype()) in INTEGERS:
                    raise PipelineError(
                        f"{named} has weights that are stored as integers ({name}: {stored}) without a configuration of"
                        " the quantization; choose the model that it was made from."
                    )


def surplus_weight(names: Collection[str], unexpected: Iterable[str]) -> str:
    """Return an unexpected tensor without which the model is another one; empty if there is none.

    `names` are the tensors of the model. Such are a tensor of a layer that follows the last one, a further weight in a
    layer, as a norm of its queries, and whatever belongs to a module that has a weight: a bias, the scale of a
    quantized weight, an adapter that was not merged. Others are left out on purpose: an image encoder, or the masks
    that earlier versions saved.
    """
    layers = {found["layers"] for name in names if (found := LAYER.match(name))}
    for name in sorted(unexpected):
        found = LAYER.match(name)
        # A model without any layer has no names to compare with.
        known = found if found and (not layers or found["layers"] in layers) else None
        beyond = known and not any(each.startswith(known[0]) for each in names)
        inside = known and name.endswith(".weight")
        modules = accumulate(name.split(".")[:-1], "{}.{}".format)
        if beyond or inside or any(f"{module}.weight" in names for module in modules):
            return name
    return ""


def location_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `from_pretrained` that say where files are read: the revision, and whether on this disk."""
    return {name: options[name] for name in ("revision", "local_files_only") if name in options}
