"""The base model's folder: loads plainly, knows the markers, begins them at the mean."""

import json
import os
import pickle
import shutil
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, GPTJConfig

from adc_pipeline.core.errors import PipelineError, UnreachableError
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.generation.address import located
from adc_pipeline.generation.replier import Replier
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.model import MULTIPLE, check_base_model, initialize_again, prepare_base_model
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.conftest import TEXTS

MARKERS = FORMATS["default"]


def test_the_small_model_is_the_same_each_time(small_model: Path, tmp_path: Path) -> None:
    settings = BaseModelSettings(layers=1, width=32, heads=2, vocabulary=300, context=256)
    torch.manual_seed(1)
    facts = prepare_base_model(settings, MARKERS, iter(TEXTS), tmp_path / "again")
    assert folder_digest(tmp_path / "again") == folder_digest(small_model)
    assert facts["vocabulary_size"] == facts["embedding_rows"] == 300
    assert facts["parameters"] == AutoModelForCausalLM.from_pretrained(small_model).num_parameters()


def test_a_seed_decides_the_initial_weights_and_nothing_else(small_model: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        initialize_again(small_model, seed, tmp_path / str(seed))
    assert folder_digest(tmp_path / "0") == folder_digest(small_model)
    apart = {
        file.name for file in small_model.iterdir() if file.read_bytes() != (tmp_path / "1" / file.name).read_bytes()
    }
    assert apart == {"model.safetensors"}
    table: Any = load_model(tmp_path / "1").get_input_embeddings().weight
    torch.testing.assert_close(table[-3:], table[:-3].mean(dim=0).expand(3, -1))


def test_markers_are_special_tokens_of_the_folder(small_model: Path, gpt2: Path) -> None:
    for folder in (small_model, gpt2):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        size = len(tokenizer)
        assert tokenizer("a<rejected>b<accepted>")["input_ids"][-1] == size - 1
        assert tokenizer.convert_tokens_to_ids([*MARKERS.strings()]) == [size - 3, size - 2, size - 1]
        assert tokenizer.decode([size - 1], skip_special_tokens=True) == ""


def test_tied_embeddings_grow_and_begin_at_the_mean(plain_gpt2: Path, gpt2: Path) -> None:
    old, new = AutoModelForCausalLM.from_pretrained(plain_gpt2), AutoModelForCausalLM.from_pretrained(gpt2)
    before, after = (model.get_parameter("transformer.wte.weight") for model in (old, new))
    assert after.shape[0] % MULTIPLE == 0
    assert new.get_output_embeddings().weight is after
    assert torch.equal(after[: len(before)], before)
    torch.testing.assert_close(after[len(before) :], before.mean(dim=0).expand(len(after) - len(before), -1))


@pytest.mark.parametrize("padded", [0, 1, 40])
def test_untied_embeddings_and_biases_begin_at_the_mean(plain_gpt2: Path, tmp_path: Path, padded: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    known = len(tokenizer)
    torch.manual_seed(0)
    config = GPTJConfig(vocab_size=known + padded, n_positions=64, n_embd=32, n_layer=1, n_head=2, rotary_dim=8)
    old = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        old.lm_head.bias.normal_()
    old.save_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "old")
    settings = BaseModelSettings(name=str(tmp_path / "old"))
    check_base_model(settings)
    facts = prepare_base_model(settings, MARKERS, [], tmp_path / "new")
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert facts["embedding_rows"] == (known + padded if padded >= 3 else -(-(known + 3) // MULTIPLE) * MULTIPLE)
    for name in ("transformer.wte.weight", "lm_head.weight", "lm_head.bias"):
        before, after = old.get_parameter(name), new.get_parameter(name)
        assert len(after) == facts["embedding_rows"]
        torch.testing.assert_close(after[:known], before[:known])
        mean = before[:known].mean(dim=0)
        torch.testing.assert_close(after[known : known + 3], mean.expand_as(after[known : known + 3]))


def test_a_prepared_folder_can_be_prepared_again(gpt2: Path, tmp_path: Path) -> None:
    prepare_base_model(BaseModelSettings(name=str(gpt2)), MARKERS, [], tmp_path / "again")
    again, once = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "again", gpt2))
    for name, tensor in once.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_marker_with_another_meaning_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    tokenizer.add_tokens(["<accepted>"])
    AutoModelForCausalLM.from_pretrained(plain_gpt2).save_pretrained(tmp_path / "taken")
    tokenizer.save_pretrained(tmp_path / "taken")
    with pytest.raises(PipelineError, match="already has '<accepted>' as an ordinary token"):
        prepare_base_model(BaseModelSettings(name=str(tmp_path / "taken")), MARKERS, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is a path without a folder"):
        check_base_model(BaseModelSettings(name=str(tmp_path / "nothing")))
    with pytest.raises(PipelineError, match=r"cannot be loaded .*; check that all files of the folder are there"):
        check_base_model(BaseModelSettings(name=str(tmp_path)))


def test_a_model_that_is_not_causal_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    check_base_model(BaseModelSettings())
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(PipelineError, match="not a causal language model"):
        check_base_model(BaseModelSettings(name=str(tmp_path / "bert")))


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline mode is what a machine without a network comes to, without the waiting.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match=r"'nobody/no-such-model' .* cannot be loaded .*; check the spelling"):
        check_base_model(BaseModelSettings(name="nobody/no-such-model"))


def test_a_hub_that_cannot_be_reached_is_worth_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{closed.getsockname()[1]}")
            except OSError as error:
                raise OSError("We couldn't connect") from error

    monkeypatch.setattr("transformers.utils.hub.cached_file", ask)
    with pytest.raises(UnreachableError, match="couldn't connect"):
        check_base_model(BaseModelSettings(name="somebody/some-model"))


def test_a_name_that_is_unknown_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError) as raised:
        check_base_model(BaseModelSettings(name="nobody/no-such-model"))
    assert not isinstance(raised.value, UnreachableError)


@pytest.mark.parametrize("wrong", [{"width": 100}, {"vocabulary": 100}, {"layers": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(PipelineError, match=f"`{next(iter(wrong))}`"):
        BaseModelSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "precision", "kept"),
    [
        (torch.bfloat16, "kept", torch.bfloat16),
        (torch.float16, "kept", torch.float16),
        (torch.float32, "kept", torch.float32),
        (torch.bfloat16, "float32", torch.float32),
    ],
)
def test_the_precision_of_a_checkpoint_is_kept(
    tmp_path: Path, dtype: torch.dtype, precision: Any, kept: torch.dtype
) -> None:
    small = BaseModelSettings(layers=1, width=32, heads=2, vocabulary=300, context=256)
    prepare_base_model(small, MARKERS, ["some text"] * 20, tmp_path / "small")
    given = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=dtype)
    given.save_pretrained(tmp_path / "given")
    AutoTokenizer.from_pretrained(tmp_path / "small").save_pretrained(tmp_path / "given")
    named = BaseModelSettings(name=str(tmp_path / "given"), precision=precision)
    prepare_base_model(named, MARKERS, [], tmp_path / "kept")
    stored = load_file(tmp_path / "kept" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {kept}
    for name, tensor in load_file(tmp_path / "given" / "model.safetensors").items():
        assert torch.equal(stored[name][: len(tensor)].to(torch.float32), tensor.to(torch.float32)), name


def damage(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: put(folder / name, content)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def set_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 640}))


def save_as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"run": print}))


def put_fifo(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damage("model.safetensors", b"\xff" * 64), "cannot be loaded"),
        (damage("config.json", b"null"), "/config.json, .*, is no JSON object"),
        (damage("config.json", b'{"a":' * 100_000), "/config.json, .*, is not one whole JSON value"),
        (damage("generation_config.json", b"[]"), "generation_config.json, .*, is no JSON object"),
        (set_width, "cannot be loaded"),
        (save_as_pickle, "a pickle that holds other things than tensors"),
        (put_fifo, "is a FIFO and no regular file"),
    ],
    ids=["weights", "null", "deep", "list", "shapes", "pickle", "FIFO"],
)
def test_a_model_that_cannot_be_loaded_is_refused_wherever_it_is_read(
    small_model: Path, tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    folder = shutil.copytree(small_model, tmp_path / "model")
    change(folder)

    def generate() -> None:
        with located(str(folder)) as place:
            Replier.load(place)

    def prepare() -> None:
        prepare_base_model(BaseModelSettings(name=str(folder)), FORMATS["default"], [], tmp_path / "out")

    for read in (prepare, generate):
        with pytest.raises(PipelineError, match=reason):
            read()
    # Models of our own have their files looked at by their manifest.
    if change is not put_fifo:
        with pytest.raises(PipelineError, match="cannot be loaded" if "JSON" in reason else reason):
            load_model(folder)
