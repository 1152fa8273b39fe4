"""What is drawn side by side, with kept keys and values, is what each prompt alone gets from a plain forward pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from adc_pipeline.generation.batch import Batch, Floats, grows
from adc_pipeline.generation.settings import Sampling

VOCABULARY, STOPS = 24, [1, 2]
SIZE: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
LENGTH = 8
SAMPLING = Sampling(0.9, 1.0, LENGTH)


def trained(model: torch.nn.Module) -> torch.nn.Module:
    """Train a model to count upwards in steps that its first two ids give, and to stop now and then."""
    draw = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        start, step = draw.integers(3, VOCABULARY, (32, 1)), draw.integers(1, 4, (32, 1))
        counted = 3 + (start - 3 + step * np.arange(24)) % (VOCABULARY - 3)
        ids = torch.from_numpy(np.where(draw.random((32, 24)) < 0.08, 1, counted))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    if request.param == "llama":
        return trained(LlamaForCausalLM(LlamaConfig(**SIZE, **HEADS)))
    return trained(GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=256, n_embd=32, n_layer=1, n_head=2)))


def oracle(model: torch.nn.Module, prompt: Sequence[int], uniforms: Floats) -> list[int]:
    """Draw one id after the other, reading the whole sequence again for each."""
    ids = list(prompt)
    for place, uniform in enumerate(uniforms):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        if not place:
            logits[STOPS] = -torch.inf
        sums = (logits / SAMPLING.temperature).softmax(-1).cumsum(-1).numpy()
        ids.append(int(np.argmax(sums > uniform * sums[-1])))
        if ids[-1] in STOPS:
            break
    return ids[len(prompt) :]


def prompts(rows: int) -> list[list[int]]:
    draw = np.random.default_rng(1)
    return [draw.integers(3, VOCABULARY, size).tolist() for size in draw.integers(2, 20, rows)]


@pytest.mark.slow
def test_replies_that_grow_in_one_batch_are_those_of_each_prompt_alone(model: torch.nn.Module) -> None:
    """Each round appends what was drawn, without its end, and another marker; now and then something else instead."""
    asked = prompts(6)
    uniforms = np.random.default_rng(2).random((3, len(asked), LENGTH))
    batch = Batch(model, STOPS, SAMPLING)  # type: ignore[arg-type]
    lengths = set()
    for place, numbers in enumerate(uniforms):
        drawn = batch.draw(asked, numbers, last=place == 2)
        assert drawn == [oracle(model, prompt, row) for prompt, row in zip(asked, numbers, strict=True)]
        lengths |= {len(ids) for ids in drawn}
        asked = [
            [*(prompt[: len(prompt) // 2] if row == place else prompt), *ids[: -1 if ids[-1] in STOPS else None], 2]
            for row, (prompt, ids) in enumerate(zip(asked, drawn, strict=True))
        ]
    assert len(lengths) > 1
    assert batch.cache is None


@pytest.mark.slow
def test_models_whose_keys_cannot_be_kept_read_every_prompt_from_its_start(model: torch.nn.Module) -> None:
    asked, uniforms = prompts(5), np.random.default_rng(3).random((5, LENGTH))
    whole = Batch(model, STOPS, SAMPLING, grows=False)  # type: ignore[arg-type]
    alone = [oracle(model, prompt, row) for prompt, row in zip(asked, uniforms, strict=True)]
    assert whole.draw(asked, uniforms) == alone


@pytest.mark.slow
def test_the_probe_finds_what_keeps_its_keys(model: torch.nn.Module) -> None:
    assert grows(model, 40)  # type: ignore[arg-type]
    torch.manual_seed(0)
    assert not grows(MistralForCausalLM(MistralConfig(**SIZE, **HEADS, sliding_window=200)).eval(), 40)
    assert not grows(
        MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1)).eval(), 40
    )


@pytest.mark.slow
def test_without_temperature_the_likeliest_id_is_drawn(model: torch.nn.Module) -> None:
    asked = prompts(3)
    coldest = Sampling(0.0, 1.0, 4)
    one, other = (
        Batch(model, STOPS, coldest).draw(asked, np.full((3, 4), number))  # type: ignore[arg-type]
        for number in (0.0, 0.999)
    )
    assert one == other
