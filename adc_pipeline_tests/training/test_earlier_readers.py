"""What transformers 4 finds in an exported model's folder. It was tried with 4.57; here the files are looked at."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from adc_pipeline.training.export.earlier_readers import spell_for_transformers_4
from adc_pipeline_tests.training.tiny import LLAMA_SIZE

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def saved(folder: Path, tokenizer: Path, model_type: str, **config: Any) -> Path:
    made = AutoConfig.for_model(model_type, vocab_size=320, pad_token_id=0, eos_token_id=0, **LLAMA_SIZE, **config)
    AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    plain = AutoTokenizer.from_pretrained(tokenizer)
    plain.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    plain.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "rope", "expected"),
    [
        ("llama", {"rope_type": "default"}, {"rope_theta": 500000.0}),
        ("llama", LLAMA3, {"rope_theta": 500000.0, "rope_scaling": LLAMA3}),
        (
            "stablelm",
            {"rope_type": "default", "partial_rotary_factor": 0.5},
            {"rope_theta": 500000.0, "partial_rotary_factor": 0.5},
        ),
        # Reads the share back as a value of its own besides.
        (
            "phi3",
            {"rope_type": "default", "partial_rotary_factor": 1.0},
            {"rope_theta": 500000.0, "partial_rotary_factor": 1.0},
        ),
    ],
)
def test_frequencies_of_positions_stand_where_transformers_4_looks(
    model_type: str, rope: dict[str, Any], expected: dict[str, Any], gpt2: Path, tmp_path: Path
) -> None:
    folder = saved(tmp_path, gpt2, model_type, rope_parameters={**rope, "rope_theta": 500000.0})
    before = AutoConfig.from_pretrained(folder)
    spell_for_transformers_4(folder)
    config, after = json.loads((folder / "config.json").read_text()), AutoConfig.from_pretrained(folder)
    names = ("rope_theta", "rope_scaling", "partial_rotary_factor")
    assert {name: config[name] for name in names if name in config} == expected
    assert after.rope_parameters == before.rope_parameters


def test_frequencies_that_differ_by_layer_are_left_as_they_are(gpt2: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path, gpt2, "gemma3_text")
    before = (folder / "config.json").read_bytes()
    spell_for_transformers_4(folder)
    assert (folder / "config.json").read_bytes() == before


def test_the_tokenizer_is_of_a_class_that_transformers_4_knows(gpt2: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path, gpt2, "llama")
    before = AutoTokenizer.from_pretrained(folder)
    spell_for_transformers_4(folder)
    config, after = json.loads((folder / "tokenizer_config.json").read_text()), AutoTokenizer.from_pretrained(folder)
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "<tool>" in config["additional_special_tokens"]
    assert "extra_special_tokens" not in config
    text = "the <tool> walk<accepted>"
    assert (after(text), after.special_tokens_map) == (before(text), before.special_tokens_map)
