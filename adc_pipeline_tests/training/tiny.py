"""The tiny Llama that tests of models begin with."""

from typing import Any

LLAMA_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


def longrope(context: int) -> dict[str, Any]:
    """Return the positions of a model (LongRoPE) whose factors differ beyond so many tokens."""
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": context,
        "factor": 8.0,
    }
