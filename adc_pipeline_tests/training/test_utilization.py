"""Model FLOPs, against PyTorch's own count of the operations that were run."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from adc_pipeline.training.loop.utilization import flops_per_token, peak_flops

LENGTH = 64
SIZE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"head_dim": 64}),
        ("gpt_neox", {}),
        ("gptj", {"n_embd": 128, "n_layer": 3, "n_head": 4, "n_inner": 256, "rotary_dim": 16}),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_flops_are_those_that_are_run(model_type: str, more: dict[str, Any], frozen: bool) -> None:
    size = {"vocab_size": 512} if model_type == "gptj" else SIZE
    config = AutoConfig.for_model(model_type, **{**size, **more})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if frozen:
        # As with adapters, which leave a first layer whose inputs need gradients.
        for parameter in model.parameters():
            parameter.requires_grad_(parameter is model.get_input_embeddings().weight)
    counter = FlopCounterMode(display=False)
    with counter:
        model(input_ids=torch.arange(LENGTH)[None]).logits.sum().backward()
    counted = counter.get_total_flops() / LENGTH
    # Eager attention computes all pairs of tokens, of which causal attention needs half.
    expected = 2 * flops_per_token(model, LENGTH) - flops_per_token(model, 0)
    if frozen and model.get_input_embeddings().weight is model.get_output_embeddings().weight:
        pytest.skip("the output's weights are trained as well, then")
    assert counted == pytest.approx(expected, rel=0.02)


def test_peaks_are_found_by_the_names_of_devices() -> None:
    assert peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("cpu, 2 threads") is None
