"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): small matrices are trained beside frozen weights.

Every linear layer but the output's gets a pair of them. The markers' rows of the embeddings are trained
as well: they begin as three copies of one mean, and a model whose markers stay equal cannot tell a rejection
from an acceptance. PEFT does the work; on export its matrices are added to the weights, so that the saved
folder is a plain model.
"""

from typing import TYPE_CHECKING

import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_adapters(model: "PreTrainedModel", settings: TrainingSettings, marker_ids: list[int]) -> None:
    """Freeze the model but for new adapters and the markers' rows; the model itself is changed."""
    _adapted(model, settings, marker_ids)


def merged(
    model: "PreTrainedModel", settings: TrainingSettings, marker_ids: list[int], trained: dict[str, torch.Tensor]
) -> "PreTrainedModel":
    """The base model with trained adapters in its weights; `trained` are the weights after `add_adapters`."""
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
    # Where the output's rows are the input's, PEFT finds them by itself.
    tables = [embedding] if head.weight is embedding.weight else [embedding, head]
    names = [name for name, module in model.named_modules() if any(module is table for table in tables)]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # a number, whole or not
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(names, marker_ids),
    )
    return get_peft_model(model, config)
