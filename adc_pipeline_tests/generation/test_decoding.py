"""What is drawn obeys the grammar, and what is shown is whole characters and no marker."""

import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.decoding import (
    Grammar,
    Sampling,
    Spelling,
    TextStream,
    changes_positions,
    continuations,
    forbidden_ids,
    stop_ids,
)
from adc_pipeline.generation.replier import Replier
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline_tests.training.tiny import LLAMA_SIZE, longrope


def streamed(tokenizer: MarkerTokenizer, ids: list[int]) -> list[str]:
    pieces: list[str] = []
    stream = TextStream(Spelling(tokenizer, speaks=True), pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))
    for id in ids:
        stream.put(torch.tensor([id]))
    stream.end()
    return pieces


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_pieces_of_a_stream_are_the_text(tokenizer: MarkerTokenizer, data: st.DataObject) -> None:
    """Of any tokens at all, half characters, control characters and the tokens of marker strings among them."""
    texts = st.sampled_from(
        ["<rejected>", "\x01", "\x1b[2J", "ected>\x9b", "<reje", "<", "é", "🜂🜃", "word", "<background>", "\n"]
    )
    some = st.one_of(
        st.lists(st.integers(0, len(tokenizer.tokenizer) - 1), max_size=6),
        texts.map(lambda text: tokenizer.ids([text])[0]),
    )
    ids = [id for part in data.draw(st.lists(some, max_size=6)) for id in part]
    pieces = streamed(tokenizer, ids)
    decoded = str(tokenizer.tokenizer.decode(ids, skip_special_tokens=True))
    decoded = "".join(each for each in decoded if each in "\t\n" or unicodedata.category(each) != "Cc")
    for marker in tokenizer.markers.strings():
        decoded = decoded.replace(marker, f"‹{marker[1:-1]}›")
    assert "".join(pieces) == decoded
    assert all(pieces)
    assert not any(marker in "".join(pieces) for marker in tokenizer.markers.strings())


def test_what_the_base_model_came_with_does_not_shape_what_is_drawn(replier: Replier) -> None:
    prompt, stops = replier.tokenizer.ids(["A title"])[0], stop_ids(replier.tokenizer)
    likeliest = Sampling(temperature=0, max_new_tokens=12)
    usual = continuations(replier.model, [prompt], stops, likeliest)
    replier.model.generation_config = GenerationConfig(repetition_penalty=9.0, num_beams=3)
    assert continuations(replier.model, [prompt], stops, likeliest) == usual


def test_a_character_of_several_tokens_comes_whole(tokenizer: MarkerTokenizer) -> None:
    ids = tokenizer.ids(["a🜂b<x"])[0]
    assert len(ids) > 6
    pieces = streamed(tokenizer, ids)
    assert pieces[:3] == ["a", "🜂", "b"]
    assert "".join(pieces) == "a🜂b<x"


def test_the_grammar_forbids_what_a_turn_cannot_hold(tokenizer: MarkerTokenizer) -> None:
    rows = len(tokenizer.tokenizer) + 5
    ends = [tokenizer.accepted_id, tokenizer.rejected_id, *tokenizer.eos_ids]

    def open_ids(written: str, speaks: bool) -> set[int]:
        prompt = [7, tokenizer.background_id]
        grammar = Grammar(Spelling(tokenizer, speaks), len(prompt), forbidden_ids(tokenizer, rows))
        scores = grammar(torch.tensor([prompt + tokenizer.ids([written])[0]]), torch.zeros(1, rows))
        return {id for id in range(rows) if scores[0, id] == 0}

    content = set(range(len(tokenizer.tokenizer))) - {*ends, tokenizer.background_id}
    for written, speaks in (("", False), (" \n", False), ("ann", True), ("ann\n", True), ("ann\n ", True)):
        assert open_ids(written, speaks) == content
    for written, speaks in (("x", False), ("ann\nx", True)):
        assert open_ids(written, speaks) == content | set(ends)


def test_a_batch_continues_each_prompt_as_if_it_were_alone(replier: Replier) -> None:
    """The oracle: the likeliest token, one full forward pass each, without a cache or padding."""
    tokenizer, model = replier.tokenizer, replier.model
    prompts = [tokenizer.ids([text])[0] for text in ("a walk", "the walk goes down a tree of replies and")]
    stops = stop_ids(tokenizer)
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        with torch.inference_mode():
            while len(ids) < len(prompt) + 12:
                logits = model(torch.tensor([ids])).logits[0, -1]
                if len(ids) == len(prompt):
                    logits[stops] = -torch.inf
                ids.append(int(logits.argmax()))
                if ids[-1] in stops:
                    break
        expected.append(ids[len(prompt) :])
    assert continuations(model, prompts, stops, Sampling(temperature=0, max_new_tokens=12)) == expected


def test_a_temperature_next_to_nothing_takes_the_likeliest(replier: Replier) -> None:
    stops, prompt = stop_ids(replier.tokenizer), replier.tokenizer.ids(["a walk"])[0]
    likeliest, cold = (
        continuations(replier.model, [prompt], stops, Sampling(temperature=temperature, max_new_tokens=8))
        for temperature in (0, 1e-40)
    )
    assert cold == likeliest


@pytest.mark.parametrize("setting", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}])
def test_a_sampling_that_cannot_work_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(PipelineError, match=f"`{next(iter(setting))}`"):
        Sampling(**setting)  # type: ignore[arg-type]


def test_a_reply_that_crosses_the_border_of_longrope_is_that_of_whole_passes() -> None:
    """The keys of a cache would keep the positions of the shorter text."""
    config = Qwen2Config(
        **{**LLAMA_SIZE, "vocab_size": 50, "initializer_range": 0.5},
        max_position_embeddings=64,
        rope_parameters=longrope(24),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        prompt = torch.randint(50, (20,)).tolist()
    assert [changes_positions(model, *each) for each in ((8, 24), (24, 25), (25, 40))] == [False, True, False]
    (written,) = continuations(model, [prompt], [49], Sampling(temperature=0, max_new_tokens=16))
    expected = list(prompt)
    for _ in range(16):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([expected]), use_cache=False).logits[0, -1].argmax()))
    assert written == expected[20:]
