"""Read from a model's configuration what it states, such as the longest sequence that it was made for."""

from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def stated(model: "PreTrainedModel", name: str) -> Any:
    """Return a value of the configuration of a model's language part; None if it has none.

    A value that differs from layer to layer, such as Gemma 4's `head_dim`, is none: reading it raises a RuntimeError.
    """
    try:
        return getattr(model.config.get_text_config(), name, None)
    except RuntimeError:
        return None


def context_length(model: "PreTrainedModel") -> int | None:
    """Return the longest sequence that the model was made for, in tokens, if its configuration states one.

    XLNet states -1 for no limit.
    """
    for name in ("max_position_embeddings", "max_seq_len", "max_target_positions"):
        if isinstance(found := stated(model, name), int) and found > 0:
            return found
    return None


def check_sequence_length(model: "PreTrainedModel", sequence_length: int) -> None:
    """Raise PipelineError if pieces of `sequence_length` tokens are longer than the model's context."""
    context = context_length(model)
    if context is not None and sequence_length > context:
        raise PipelineError(
            f"`sequence_length` {sequence_length} is longer than the {context} tokens of the base model's context;"
            " lower it or choose another base model."
        )
