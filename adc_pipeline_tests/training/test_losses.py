"""The losses, against figures made by hand, against PyTorch's, and packed against alone."""

import inspect
import math
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2Config,
)

from adc_pipeline.training.architectures.attention import Spans, in_one_kernel
from adc_pipeline.training.architectures.probes import choose_separation
from adc_pipeline.training.objectives import losses as losses_module
from adc_pipeline.training.objectives.losses import CrossEntropy, TokenLosses, Unlikelihood, weighted_loss
from adc_pipeline.training.rows.batches import build_batch
from adc_pipeline.training.rows.packing import cut_into_pieces, pack
from adc_pipeline_tests.training.test_packing import split_of

SIZE: dict[str, Any] = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGURATIONS = {
    "llama": LlamaConfig(**SIZE, intermediate_size=64),
    "gpt2": GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2),
    "gpt_neox": GPTNeoXConfig(**SIZE, intermediate_size=64),
    "qwen2": Qwen2Config(**SIZE, intermediate_size=64, num_key_value_heads=2),
}


def test_mle_by_hand() -> None:
    # Three places over three tokens; the second does not count.
    logits = torch.tensor([[0.0, math.log(2), 0.0], [5.0, -1.0, 3.0], [math.log(6), 0.0, 0.0]])
    losses = CrossEntropy.apply(logits, torch.tensor([1, 2, 1]))
    loss = weighted_loss(losses, torch.tensor([1.0, 0.0, 1.0]), 2.0)
    # p = 2/4 in the first place, 1/8 in the third.
    assert loss.item() == pytest.approx((math.log(2) + math.log(8)) / 2, rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 200, 450, 1 << 20])
def test_cross_entropy_is_the_textbook_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses_module.CHUNK, "cpu", chunk)
    torch.manual_seed(0)
    logits = (torch.randn(17, 200) * 20).requires_grad_()
    reference = logits.detach().double().requires_grad_()
    targets, weights = torch.randint(0, 200, (17,)), torch.rand(17)
    losses = CrossEntropy.apply(logits, targets)
    expected = -torch.log_softmax(reference, dim=-1)[torch.arange(17), targets]
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    assert logits.grad is not None
    assert reference.grad is not None
    torch.testing.assert_close(logits.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.fast_first
@pytest.mark.parametrize("attention", ["sdpa", "eager", "apart"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_walk_has_the_same_loss_packed_and_alone(name: str, attention: str) -> None:
    torch.manual_seed(0)
    apart = attention == "apart"
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGURATIONS[name])).eval()
    split = split_of([[3, 5, 2], [2, 6], [4, 1, 1, 1], [9, 9]])
    pieces = cut_into_pieces(split, 32)
    rows = pack(pieces.lengths, 32, 0, 0)
    assert len(rows) == 2
    expected = []
    with torch.no_grad():
        for piece in rows.piece:
            begin, end = pieces.body_start[piece], pieces.body_end[piece]
            ids = torch.from_numpy(split.ids[begin:end].astype(np.int64))[None]
            found = torch.log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
            expected += (-found.gather(-1, ids[0, 1:, None])[:, 0]).tolist()

    if apart:
        assert choose_separation(model, (8, 18), 32, 32, kernel=True) == "kernel"
        every_row = [rows.take(np.array([number])) for number in range(len(rows))]
        # One row without padding, one with more of it than a piece may have.
        batches = [
            build_batch(split, pieces, row, int(pieces.lengths[row.piece].sum()) + padding, apart=True)
            for row, padding in zip(every_row, (0, 40), strict=True)
        ]
    else:
        model.set_attn_implementation(attention)
        assert choose_separation(model, (8, 18), 32, 32, kernel=False) == "positions"
        batches = [build_batch(split, pieces, rows, 32)]
    losses = []
    for batch in (batch.to(torch.device("cpu")) for batch in batches):
        losses += TokenLosses(model)(batch).tokens[batch.weights > 0].tolist()
    assert losses == pytest.approx(expected, abs=2e-5)


def textbook(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention of one walk, query by query, for (tokens, heads, width) and as many heads or fewer."""
    heads, shared = query.shape[1], query.shape[1] // key.shape[1]
    found = torch.zeros_like(query)
    for head in range(heads):
        for place in range(len(query)):
            keys, values = key[: place + 1, head // shared], value[: place + 1, head // shared]
            found[place, head] = torch.softmax(keys @ query[place, head] * scale, 0) @ values
    return found


@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_for_gpus_is_given_what_it_asks_for(key_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel itself runs on GPUs only. What stands for it here has its signature and is its description.
    from torch.nn.attention import varlen

    def kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        given = signature(query, key, value, *rest, **named).arguments
        assert given["window_size"] == (-1, 0)
        assert given.get("enable_gqa", False) == (query.shape[1] != key.shape[1])
        assert given["cu_seq_q"].dtype == torch.int32
        starts = given["cu_seq_q"].tolist()
        assert starts == given["cu_seq_k"].tolist()
        assert max(end - begin for begin, end in pairwise(starts)) <= given["max_q"] == given["max_k"]
        walks = [slice(begin, end) for begin, end in pairwise(starts)]
        return torch.cat([textbook(query[one], key[one], value[one], given["scale"]) for one in walks])

    signature = inspect.signature(varlen.varlen_attn).bind
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    torch.manual_seed(0)
    attention: Any = torch.nn.functional.scaled_dot_product_attention
    query, key, value = (torch.randn(1, heads, 9, 8) for heads in (4, key_heads, key_heads))
    found = in_one_kernel(query, key, value, Spans.of([2, 1, 6], 7), 0.3)
    for begin, end in ((0, 2), (2, 3), (3, 9)):
        # (1, heads, tokens, width) for PyTorch's, (1, tokens, heads, width) for transformers.
        walk = (part[:, :, begin:end] for part in (query, key, value))
        expected = attention(*walk, is_causal=True, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(found[:, begin:end], expected.transpose(1, 2))


def test_attention_with_a_window_is_left_to_the_mask() -> None:
    window = Qwen2Config(
        **SIZE,
        intermediate_size=64,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=0,
    )
    model = AutoModelForCausalLM.from_config(window)
    before = model.config._attn_implementation
    assert choose_separation(model, (8, 18), 32, 32, kernel=True) == "positions"
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_are_the_same_apart_and_masked(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGURATIONS[name])).eval()
    split = split_of([[3, 5, 2], [2, 6], [4, 1, 1, 1]])
    pieces = cut_into_pieces(split, 32)
    rows = pack(pieces.lengths, 32, 0, 0)
    gradients = []
    for apart in (False, True):
        if apart:
            assert choose_separation(model, (7, 10), 32, 32, kernel=True) == "kernel"
        tensors = build_batch(split, pieces, rows, 32, apart=apart).to(torch.device("cpu"))
        weighted_loss(TokenLosses(model)(tensors).tokens, tensors.weights, 1.0).backward()
        gradients.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
        model.zero_grad()
    for parameter, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][parameter], rtol=1e-4, atol=1e-4)


def test_unlikelihood_by_hand() -> None:
    # p = 2/4 in the first place, which is to become unlikely, and 1/8 in the second.
    logits = torch.tensor([[0.0, math.log(2), 0.0], [math.log(6), 0.0, 0.0]])
    losses = Unlikelihood.apply(logits, torch.tensor([1, 1]), torch.tensor([True, False]))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(8)], rel=1e-6)
    alpha = 3.0
    loss = weighted_loss(losses, torch.tensor([alpha, 1.0]), alpha + 1.0)
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(8)) / 4, rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 14, 1 << 20])
def test_gradients_are_those_of_finite_differences(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses_module.CHUNK, "cpu", chunk)
    torch.manual_seed(0)
    logits = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    targets, unlikely = torch.randint(0, 7, (6,)), torch.tensor([True, False] * 3)
    assert torch.autograd.gradcheck(lambda given: CrossEntropy.apply(given, targets), (logits,))
    assert torch.autograd.gradcheck(lambda given: Unlikelihood.apply(given, targets, unlikely), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 450, 1 << 20])
def test_unlikelihood_is_the_textbook_one(chunk: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses_module.CHUNK, "cpu", chunk)
    torch.manual_seed(0)
    logits = (torch.randn(60, 200) * 5).to(dtype).requires_grad_()
    reference = logits.detach().double().requires_grad_()
    targets, weights, unlikely = torch.randint(0, 200, (60,)), torch.rand(60), torch.rand(60) < 0.5
    losses = Unlikelihood.apply(logits, targets, unlikely)
    p = torch.softmax(reference, dim=-1)[torch.arange(60), targets]
    expected = -torch.where(unlikely, 1 - p, p).log()
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    assert logits.grad is not None
    assert reference.grad is not None
    near = 1e-4 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(logits.grad.double(), reference.grad, rtol=near, atol=1e-6)


def test_unlikelihood_without_rejected_tokens_is_likelihood() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 30), torch.randint(0, 30, (9,))
    nowhere = torch.zeros(9, dtype=torch.bool)
    torch.testing.assert_close(Unlikelihood.apply(logits, targets, nowhere), CrossEntropy.apply(logits, targets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("height", [40.0, 1000.0, -1000.0])
def test_unlikelihood_is_finite_where_p_is_one_or_nothing(height: float, dtype: torch.dtype) -> None:
    # By the textbook, 1 - p is 0 in float32 for the first two, and the loss infinite.
    logits = torch.zeros(2, 4, dtype=dtype)
    logits[:, 2] = height
    logits.requires_grad_()
    losses = Unlikelihood.apply(logits, torch.tensor([2, 2]), torch.tensor([True, False]))
    margin = height - math.log(3)
    assert losses.tolist() == pytest.approx([max(margin, 0.0), max(-margin, 0.0)], rel=1e-5)
    losses.sum().backward()
    assert logits.grad is not None
    slope = [1.0, 0.0] if height > 0 else [0.0, -1.0]
    near = 1e-5 if dtype == torch.float32 else 1e-2
    for row, steep in zip(logits.grad.float(), slope, strict=True):
        torch.testing.assert_close(row, steep * torch.tensor([-1 / 3, -1 / 3, 1, -1 / 3]), rtol=near, atol=1e-6)
