"""Load a causal language model from a folder or the Hub, and refuse files that are not the whole, plain model.

transformers draws missing tensors at random with a warning, and applies an adapter that lies beside the weights without
being asked. Both give a model that runs and is not the one that was named. A quantized model that is not converted to
plain weights as it is loaded cannot be trained. Every load of a model goes through here.
"""

import math
import pickle
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adc_pipeline.core.errors import (
    DamagedError,
    PipelineError,
    UnreachableError,
    first_line,
    is_network_fault,
    is_refused_by_system,
)
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
# The types of weights in a safetensors file: those of half precision, and those that are numbers of a quantization.
HALF = {"BF16": torch.bfloat16, "F16": torch.float16}
INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")


def load_model(folder: Path) -> "PreTrainedModel":
    """Load the model of a folder that `prepare_base_model` or a training wrote, in float32.

    Raise PipelineError for whatever the libraries raise.
    """
    try:
        return load_weights(str(folder), f"The model in {folder}", local_files_only=True)
    except PipelineError:
        raise
    except Exception as error:
        if is_refused_by_system(error):
            raise
        raise DamagedError(
            f"The model in {folder} cannot be loaded ({reason(error)}): materialize the asset that made it again."
        ) from error


def reason(error: BaseException) -> str:
    """Return why a library cannot load a model, for a sentence.

    The message for a pickle advises to run what is in it, and that for other shapes points to a report in the log, so
    they are replaced.
    """
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are a pickle that holds other things than tensors, or that is damaged"
    if "module 'torch' has no attribute" in str(error):
        return f"its config.json names {str(error).split()[-1]} as the type of its weights, which torch does not know"
    if "ignore_mismatched_sizes" in str(error):
        return "tensors in its files have other shapes than its config.json states"
    if isinstance(error, KeyError):
        return f"{first_line(error)} is missing, or it is not known"
    return first_line(error)


@contextmanager
def reported(sentence: Callable[[str], str]) -> Iterator[None]:
    """Raise PipelineError for whatever the libraries raise when they load a model; `sentence` states the reason."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if is_refused_by_system(error):
            raise
        kind = UnreachableError if is_network_fault(error) else PipelineError
        raise kind(sentence(reason(error))) from error


def load_weights(source: str, named: str, **options: Any) -> "PreTrainedModel":
    """Load a model from a folder or a name on the Hub, by default in float32.

    Raises PipelineError if tensors are missing or an adapter lies beside the model, and whatever transformers raises
    for files that it cannot read. `named` is the subject of the error's sentence, `options` are those of
    `from_pretrained`.
    """
    from transformers import AutoModelForCausalLM

    refuse_adapter(source, named, **options)
    refuse_two_weights(source, named)
    refuse_foreign_shards(source, named)
    options = {"dtype": torch.float32, **options}
    model: PreTrainedModel
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **options)
    except Exception as error:
        if is_network_fault(error) or is_refused_by_system(error):
            raise
        refuse_quantized(source, named, **options)
        raise
    model, found = loaded
    # It is gone where transformers has converted the weights, as those of float8 or mxfp4 on a CPU.
    if getattr(model.config, "quantization_config", None) is not None:
        refuse_quantized(source, named, **options)
    refuse_integers(source, named, model, **options)
    keep_apart(model)
    if missing := sorted(found["missing_keys"]):
        raise PipelineError(
            f"{named} is incomplete: {len(missing)} of its {len(model.state_dict())} tensors are missing, such as"
            f" {missing[0]}; save the plain model again, not a wrapper around it, or choose another."
        )
    if surplus := surplus_weight(set(model.state_dict()), found["unexpected_keys"]):
        raise PipelineError(
            f"{named} has weights that its configuration has no place for ({surplus}), so that a part of it would be"
            " left out; correct config.json (the number of layers, or what a layer has), merge an adapter, or choose"
            " another."
        )
    return model


def keep_apart(model: "PreTrainedModel") -> None:
    """Let the configuration say that a model has output embeddings of its own, if its files have some.

    transformers loads them with a warning where the configuration ties them to the input's, and would drop them once
    the vocabulary grows.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    one, other = (getattr(table, "weight", None) for table in (embedding, head))
    if one is None or other is None or one is other or (one.shape == other.shape and torch.equal(one, other)):
        return
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False


def location_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `from_pretrained` that say where files are read: the revision, and whether on this disk."""
    return {name: options[name] for name in ("revision", "local_files_only") if name in options}


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


def other_shape(model: "PreTrainedModel") -> str | None:
    """Return which tensor of a model has another shape than its configuration states, so that it could not be loaded.

    None if there is none, or if the configuration alone makes no model.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            stated = AutoModelForCausalLM.from_config(model.config).state_dict()
    except Exception:
        return None
    return next(
        (
            f"{name} is {tuple(tensor.shape)}, and config.json states {tuple(stated[name].shape)}"
            for name, tensor in model.state_dict().items()
            if name in stated and stated[name].shape != tensor.shape
        ),
        None,
    )


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


def refuse_adapter(source: str, named: str, **options: Any) -> None:
    """Raise PipelineError if a folder or a name on the Hub has a PEFT adapter, alone or beside a model."""
    from transformers.utils.hub import cached_file

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    if cached_file(source, ADAPTER, **location_options(options), **quiet):
        raise PipelineError(
            f"{named} contains a PEFT adapter ({ADAPTER}), which would be loaded in place of the plain model; merge the"
            " adapter into the model with PEFT's merge_and_unload and save that, or remove the adapter."
        )


def broken_tensor(model: torch.nn.Module) -> str | None:
    """Return the name of a weight that is not finite, if there is one: a parameter, or a buffer that is saved."""
    return next((name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())), None)
