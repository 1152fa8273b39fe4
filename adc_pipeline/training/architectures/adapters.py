"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): train small matrices beside frozen weights.

Every linear layer except the output gets a pair of them. The markers' rows of the embeddings are trained as well: they
start as three copies of one mean, and a model whose markers stay equal cannot tell a rejection from an acceptance. PEFT
does the work; the export adds its matrices to the weights, so that the saved folder is a plain model.
"""

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import torch

from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.training.architectures.memory import is_out_of_memory
from adc_pipeline.training.architectures.probes import FAULTS
from adc_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Weights without an adapter are named from this share of all on.
NAMED_SHARE = 0.01


class AdaptedShare(NamedTuple):
    """The share of a base model's weights that have an adapter, and the shares of those that have none, by name.

    The numbers of layers are left out of the names.
    """

    adapted: float
    others: dict[str, float]

    def __str__(self) -> str:
        found = f"LoRA adapts {self.adapted:.1%} of the weights"
        named = ", ".join(f"{name} {share:.1%}" for name, share in self.others.items() if share >= NAMED_SHARE)
        return f"{found}; without adapters stay {named}." if named else f"{found}."


def add_adapters(model: "PreTrainedModel", settings: TrainingSettings, marker_ids: list[int]) -> None:
    """Freeze the model except for new adapters and the markers' rows, in place."""
    _adapted(model, settings, marker_ids)


def adapted_share(model: "PreTrainedModel") -> AdaptedShare:
    """Return which of a model's weights `add_adapters` gave adapters.

    Experts are one weight of three dimensions, no linear layers. PEFT adapts those of some models, as Mixtral's and
    Qwen's, and none of others, so that the share may be small.
    """
    from peft.tuners.lora import LoraLayer

    beside = {
        id(module.get_base_layer().get_parameter(getattr(module, "parameter_name", "weight")))
        for module in model.modules()
        if isinstance(module, LoraLayer)
    }
    total, others = 0, Counter[str]()
    for name, parameter in model.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            continue
        total += parameter.numel()
        if id(parameter) not in beside:
            others[re.sub(r"\.(\d+|base_layer|token_adapter|weight)(?=\.|$)", "", name)] += parameter.numel()
    return AdaptedShare(1 - others.total() / total, {name: count / total for name, count in others.most_common()})


def merged(
    model: "PreTrainedModel", settings: TrainingSettings, marker_ids: list[int], trained: dict[str, torch.Tensor]
) -> "PreTrainedModel":
    """Return the base model with trained adapters in its weights; `trained` are the weights after `add_adapters`."""
    adapted = _adapted(model, settings, marker_ids)
    model.load_state_dict(trained)
    plain: PreTrainedModel = adapted.merge_and_unload()
    return plain


def _adapted(model: "PreTrainedModel", settings: TrainingSettings, marker_ids: list[int]) -> "PeftModel":
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise PipelineError("`lora_rank` needs the package peft; install it, or set `lora_rank` to 0.") from error

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    # PEFT finds tied output embeddings by itself.
    tables = [embedding] if head.weight is embedding.weight else [embedding, head]
    names = [name for name, module in model.named_modules() if any(module is table for table in tables)]
    # PEFT replaces whatever is derived from a linear layer. A layer with a forward pass of its own, such as a router
    # that returns scores and logits, is not x W + b, and an adapter could not be merged into it.
    others = [name for name, module in model.named_modules() if is_linear(module) and not is_plainly_linear(module)]
    others += [name for name in shared_layers(model) if model.get_submodule(name) is not head]
    others += refused_layers(model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        exclude_modules=others or None,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # a number, whole or not
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(names, marker_ids),
    )
    try:
        adapted = get_peft_model(model, config)
        keep_bias(head, model.get_output_embeddings())
        return adapted
    except FAULTS as error:
        if is_out_of_memory(error):
            raise
        if "lora_dropout" in str(error):
            raise PipelineError(
                f"`lora_dropout` {settings.lora_dropout} does not work with the experts of the base model, a"
                f" {type(model).__name__}; set it to 0."
            ) from error
        raise PipelineError(
            f"`lora_rank` {settings.lora_rank} does not work with the base model, a {type(model).__name__}"
            f" ({first_line(error)}); set it to 0 to train all weights."
        ) from error


def keep_bias(head: torch.nn.Module, adapted: torch.nn.Module) -> None:
    """Have output embeddings with adapted rows add their bias, if they have one that PEFT leaves out.

    PEFT computes x W of them, so that GPT-J and Phi would be trained without a bias that their export has.
    """
    bias = getattr(head, "bias", None)
    if bias is None or adapted is head:
        return
    nothing = torch.zeros_like(head.get_parameter("weight")[:1])
    with torch.no_grad():
        left_out = not bool(adapted(nothing).any()) and bool(head(nothing).any())
    if left_out:
        adapted.register_forward_hook(lambda module, given, found: found + bias)


def refused_layers(model: "PreTrainedModel") -> list[str]:
    """Return the names of linear layers that PEFT refuses to adapt in a model of this kind.

    A state-space layer's kernel reads the weight of its output past an adapter. PEFT judges by the model's type and the
    last part of a layer's name, so it is asked about a layer of that name in a model of that type.
    """
    from peft import LoraConfig, inject_adapter_in_model

    named: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if is_linear(module):
            named.setdefault(name.rpartition(".")[2], []).append(name)
    refused: list[str] = []
    for last, names in named.items():
        alone = torch.nn.ModuleDict({last: torch.nn.Linear(1, 1)})
        alone.config = model.config  # type: ignore[assignment]  # where PEFT looks for the type
        try:
            inject_adapter_in_model(LoraConfig(r=1, target_modules=[last]), alone)
        except ValueError:
            refused += names
    return refused


def shared_layers(model: torch.nn.Module) -> list[str]:
    """Return the names of linear layers whose weight other places of the model use as well, as Zamba's do.

    An adapter stands in one place, and what it learned would be merged into all of them.
    """
    weights = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    modules = model.named_modules(remove_duplicate=False)
    return [name for name, module in modules if is_linear(module) and weights[id(module.weight)] > 1]


def is_linear(module: torch.nn.Module) -> bool:
    """Return whether PEFT takes a module for a linear layer."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def is_plainly_linear(module: torch.nn.Module) -> bool:
    """Return whether a linear layer computes x W + b and nothing else.

    A layer with a forward pass of its own, such as Falcon's, is run and compared.
    """
    from transformers.pytorch_utils import Conv1D

    if type(module).forward in (torch.nn.Linear.forward, Conv1D.forward):
        return True
    plain = torch.nn.Linear.forward if isinstance(module, torch.nn.Linear) else Conv1D.forward
    weight = module.get_parameter("weight")
    inputs = weight.shape[1] if isinstance(module, torch.nn.Linear) else weight.shape[0]
    states = torch.randn(3, inputs, generator=torch.Generator().manual_seed(0)).to(weight)  # (tokens, inputs)
    with torch.no_grad():
        found, expected = module(states), plain(module, states)  # type: ignore[arg-type]
    return isinstance(found, torch.Tensor) and torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
