"""Spell a saved model so that transformers 4 reads it too, as other trainers and servers do.

transformers 5 names a class of tokenizers that 4 does not know, and writes the frequencies of the positions in a place
that 4 does not look at: a base with others than the default ones would give other logits there, without a word. Both
spellings stand in the files. One that transformers 5 itself would read in another way is left out.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.training.texts.facts import REMEDY

# What both versions call the same, in another place.
SHARED = ("rope_theta", "partial_rotary_factor")


def spell_for_transformers_4(folder: Path) -> None:
    """Add the spellings of transformers 4 to the configurations of a model and its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    def model() -> Any:
        return {name: part for name, part in AutoConfig.from_pretrained(folder).to_dict().items() if name not in SHARED}

    def tokenizer() -> Any:
        read = AutoTokenizer.from_pretrained(folder)
        return read.is_fast and read.backend_tokenizer.to_str(), read.special_tokens_map, read.added_tokens_decoder

    respell(folder / "config.json", with_positions, model)
    respell(folder / "tokenizer_config.json", with_known_class, tokenizer)


def respell(path: Path, spelt: Callable[[dict[str, Any]], dict[str, Any]], read: Callable[[], Any]) -> None:
    """Replace a file by another spelling of it, unless `read` then returns something else."""
    before, meant = read_record(path, remedy=REMEDY), read()
    if (after := spelt(before)) == before:
        return
    write_record(path, after)
    if read() != meant:
        write_record(path, before)


def with_positions(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration, and those in it, with `rope_theta` and `rope_scaling` where all layers share them."""
    found = {name: with_positions(part) if isinstance(part, dict) else part for name, part in config.items()}
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return found
    scaling = {name: value for name, value in rope.items() if name not in SHARED}
    shared = {name: rope[name] for name in SHARED if name in rope}
    return {**shared, **({} if scaling.get("rope_type") == "default" else {"rope_scaling": scaling}), **found}


def with_known_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's configuration with the class, and the name of its further special tokens, that 4 knows."""
    found = dict(config)
    if found.get("tokenizer_class") == "TokenizersBackend":
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(found.get("extra_special_tokens"), list):
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    return found
