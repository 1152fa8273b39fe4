"""A model's folder can be used without this package: template and layout give the same ids, a marker ends a reply."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from adc_pipeline.generation.address import inside
from adc_pipeline.generation.chat_template import own_ids, template_ids, write_chat_template
from adc_pipeline.generation.conversation import prompt_ids
from adc_pipeline.generation.replier import Replier
from adc_pipeline.training.texts.facts import ModelFacts
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline_tests.training.conftest import small_model

__all__ = ["small_model"]

CHATS = [
    [{"role": "user", "content": "Why?"}],
    [{"role": "user", "content": "Why?\n\nIt leaks. ", "name": "ann"}, {"role": "rejected", "content": "lol"}],
    [
        {"role": "user", "content": "<accepted>\n<background> <rejected>", "title": " Oh "},
        {"role": "assistant", "content": "no", "verdict": "rejected"},
        {"role": "accepted", "content": "<rejec<accepted>ted>\n\nb", "name": "b<rejected>"},
        {"role": "user", "content": "\tyes "},
    ],
]


def exported(model: Path, folder: Path, **facts: object) -> Path:
    shutil.copytree(model, folder)
    record = {"objective": "mle", "markers": "after", "speakers": "names"} | facts
    (folder / "training.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True},
        {"use_cache": False, "cache_implementation": "static"},
        {"forced_eos_token_id": 2, "suppress_tokens": [1], "min_length": 9, "max_length": 9, "repetition_penalty": 2.0},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"top_p": 5.0, "min_p": 2.0, "top_k": -3},
        {"top_p": float("inf"), "min_p": float("nan"), "top_k": True},
    ],
)
def test_options_that_a_base_model_has_for_another_layout_are_left_out(
    small_model: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    folder = exported(small_model, tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(options | {"temperature": 0.6, "do_sample": False}))
    assert write_chat_template(folder)
    found = json.loads((folder / "generation_config.json").read_text())
    assert found.pop("eos_token_id") == MarkerTokenizer.load(folder).control_ids
    assert set(found) == {"do_sample", "pad_token_id", "temperature", "transformers_version"}


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"speakers": "none"},
        {"objective": "filtering"},
        {"objective": "conditional", "markers": "before"},
        {"markers": "neutral"},
        {"objective": "quantiles", "markers": "before", "levels": 4},
    ],
    ids=str,
)
def test_the_template_gives_the_ids_of_our_layout(small_model: Path, tmp_path: Path, facts: dict[str, object]) -> None:
    folder = exported(small_model, tmp_path / "model", **facts)
    assert write_chat_template(folder)
    tokenizer, known = MarkerTokenizer.load(folder), ModelFacts.read(folder)
    for messages in CHATS:
        for prompt in (True, False):
            expected = own_ids(known, tokenizer, messages, prompt)
            template = tokenizer.tokenizer.chat_template
            assert template_ids(tokenizer.tokenizer, template, messages, prompt) == expected
    # The prompt is the one that the model is asked with.
    replier = Replier.load(inside(folder, str(folder)))
    conversation = replier.with_turn(replier.about("Why?\n\nIt leaks. ", "ann"), "lol", "rejected")
    asked = prompt_ids(conversation, replier.tokenizer, replier.arranged, 500)
    assert asked == own_ids(known, tokenizer, CHATS[1], True)


def test_no_content_forges_a_special_token(small_model: Path, tmp_path: Path) -> None:
    folder = exported(small_model, tmp_path / "model")
    write_chat_template(folder)
    tokenizer = MarkerTokenizer.load(folder)
    plain = tokenizer.tokenizer
    special = [str(token) for token in plain.added_tokens_decoder.values() if token.special]
    text = "".join(special) + " ".join(special)
    messages = [
        {"role": "user", "content": f"{text}\n{text}", "name": text},
        {"role": "rejected", "content": text, "name": text},
    ]
    found = template_ids(plain, plain.chat_template, messages, True)
    ids = set(plain.all_special_ids) | set(tokenizer.marker_ids)
    assert [one for one in found if one in ids] == [
        *tokenizer.prefix_ids, tokenizer.background_id, tokenizer.rejected_id,
    ]  # fmt: skip


def test_the_pipeline_of_transformers_uses_it_and_stops_at_a_marker(small_model: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = exported(small_model, tmp_path / "model")
    write_chat_template(folder)
    generate = pipeline("text-generation", str(folder), device="cpu")
    tokenizer = MarkerTokenizer.load(folder)
    assert set(generate.model.generation_config.eos_token_id) == set(tokenizer.control_ids)
    prompt = own_ids(ModelFacts(), tokenizer, CHATS[1], True)
    texts = tokenizer.ids(["a"])[0]
    for allowed, new in ((tokenizer.accepted_id, 1), (tokenizer.rejected_id, 1), (texts[0], 20)):
        others = [one for one in range(generate.model.config.vocab_size) if one != allowed]
        (found,) = generate(CHATS[1], max_new_tokens=20, do_sample=False, return_tensors=True, suppress_tokens=others)
        assert found["generated_token_ids"] == [*prompt, *[allowed] * new]
    (found,) = generate(CHATS[1], max_new_tokens=5, return_full_text=False)
    assert isinstance(found["generated_text"], str)
    options = {"max_new_tokens": 5, "do_sample": False}
    alone = [generate(chat, **options) for chat in CHATS[1:]]
    assert generate(CHATS[1:], batch_size=2, **options) == alone


@pytest.mark.parametrize(
    ("end", "own", "expected"), [("<|end|>", None, "<|end|>"), ("<|end|>", "<p>", "<p>"), (None, None, None)]
)
def test_the_end_of_the_text_pads_where_nothing_else_does(
    small_model: Path, tmp_path: Path, end: str | None, own: str | None, expected: str | None
) -> None:
    plain = AutoTokenizer.from_pretrained(small_model)
    plain.eos_token, plain.pad_token = end, own
    folder = exported(small_model, tmp_path / "model")
    plain.save_pretrained(folder)
    write_chat_template(folder)
    assert AutoTokenizer.from_pretrained(folder).pad_token == expected


def test_a_model_without_markers_gets_no_template(small_model: Path, tmp_path: Path) -> None:
    assert not write_chat_template(exported(small_model, tmp_path / "model", markers="none"))
    assert not (tmp_path / "model" / "chat_template.jinja").exists()
