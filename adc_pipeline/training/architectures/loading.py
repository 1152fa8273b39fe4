"""Load a causal language model from a folder or the Hub; every load of a model goes through here.

transformers draws missing tensors at random with a warning, and drops surplus ones: both give a model that runs and is
not the one that was named. `weight_files` refuses what its files show.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from adc_pipeline.core.terminal import printable
from adc_pipeline.training.architectures.weight_files import (
    refuse_adapter,
    refuse_foreign_shards,
    refuse_integers,
    refuse_quantized,
    refuse_two_weights,
    surplus_weight,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        # Another name tells of a wrapper, or of a model of several parts.
        other = min(found["unexpected_keys"], default=None)
        instead = f", and there are others, such as {printable(other)}" if other else ""
        raise PipelineError(
            f"{named} is incomplete: {len(missing)} of its {len(model.state_dict())} tensors are missing, such as"
            f" {missing[0]}{instead}; save the plain model again, not a wrapper around it, or choose another."
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
