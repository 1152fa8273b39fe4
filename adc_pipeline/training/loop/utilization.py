"""Model FLOPs utilization: the operations that the model's mathematics needs, over the peak of the GPU.

After Chowdhery et al. 2022, *PaLM*, appendix B: recomputation to save memory does not count, nor does padding.
Attention counts the pairs of tokens within a walk, not those of a whole row.
"""

from typing import TYPE_CHECKING

from adc_pipeline.training.architectures.context import stated

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Dense bfloat16 FLOP/s by a part of the device's name, from the makers' data sheets; the first that fits.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


def peak_flops(device: str) -> float | None:
    """Return the FLOP/s of one device in bfloat16, or None if unknown."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def flops_per_token(model: "PreTrainedModel", attended: float) -> float:
    """Return the FLOP of the forward and backward pass for one token.

    6 for each trained weight and 4 for each frozen weight (without its own gradient), except in an input embedding that
    is not also the output's, which is looked up; and 6 L w T for causal attention of total width w in L layers, where
    T = `attended` is the mean over tokens of the length of their walk.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    looked_up = set() if head is None or head.weight is embedding.weight else {id(embedding.weight)}
    weights = sum(
        (6 if parameter.requires_grad else 4) * parameter.numel()
        for parameter in model.parameters()
        if id(parameter) not in looked_up
    )
    heads, size = stated(model, "num_attention_heads"), stated(model, "head_dim")
    width = heads * size if heads and size else stated(model, "hidden_size") or 0
    return float(weights + 6 * (stated(model, "num_hidden_layers") or 0) * width * attended)
