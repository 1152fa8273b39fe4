"""What is written is what was trained: adapters beside weights and in them, and the written folder."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures import adapters
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.export.sameness import ReadText, check_adapters, check_written, first_text, losses_of
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline.training.texts.tokens import MarkerTokenizer

SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=128, max_steps=1, checkpoint_every=1, learning_rate=1e-2, lora_rank=2
)
GPTJ: dict[str, Any] = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128, "rotary_dim": 8}


@pytest.fixture
def biased(gpt2: Path, tmp_path: Path) -> Path:
    """A prepared base model whose output embeddings have a bias, as GPT-J's and Phi's."""
    tokenizer = AutoTokenizer.from_pretrained(gpt2)
    torch.manual_seed(0)
    config = AutoConfig.for_model("gptj", vocab_size=len(tokenizer), **GPTJ)
    model = AutoModelForCausalLM.from_config(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def job_in(folder: Path, dataset: Path, base: Path) -> TrainingJob:
    return TrainingJob(SETTINGS, dataset, base, folder / "output", folder / "work")


def test_the_bias_of_the_output_is_trained_with_as_it_is_exported(biased: Path, dataset: Path, tmp_path: Path) -> None:
    """PEFT leaves it out of output embeddings of which it trains some rows."""
    facts = train(job_in(tmp_path, dataset, biased))
    model, marker_ids = load_model(biased), MarkerTokenizer.load(biased).marker_ids
    text = torch.tensor([5, 6, *marker_ids, 7])
    alone = losses_of(model, text)
    adapters.add_adapters(model, SETTINGS, marker_ids)
    assert torch.allclose(losses_of(model, text), alone, atol=1e-5)
    assert facts["trained_parameters"] < facts["parameters"]


def test_adapters_that_cannot_be_merged_are_refused_before_the_first_step(
    biased: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path, dataset, biased)
    marker_ids = MarkerTokenizer.load(biased).marker_ids
    check_adapters(job, marker_ids)
    monkeypatch.setattr(adapters, "keep_bias", lambda *_: None)
    with pytest.raises(PipelineError, match=r"`lora_rank` 2 does not work with .* GPTJForCausalLM: once .* differ by"):
        check_adapters(job, marker_ids)
    with pytest.raises(PipelineError, match="set it to 0"):
        train(job)
    assert not (job.work / "checkpoints").exists()


def test_an_adapter_that_the_model_passes_by_is_not_trained_and_no_fault(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jamba reads the weight of a layer itself, and never calls the layer."""
    feed_forward = type(load_model(small_model).model.layers[0].mlp)
    monkeypatch.setattr(feed_forward, "forward", lambda self, x: self.down_proj(x @ self.up_proj.weight.T))
    check_adapters(job_in(tmp_path, dataset, small_model), MarkerTokenizer.load(small_model).marker_ids)


def test_a_folder_that_gives_other_losses_than_the_trained_model_is_not_kept(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(small_model)
    save = type(model).save_pretrained

    def save_others(one: Any, folder: Path, **options: Any) -> None:
        save(one, folder, **options)
        weights = load_file(Path(folder) / "model.safetensors")
        save_file({name: tensor * 1.5 for name, tensor in weights.items()}, Path(folder) / "model.safetensors")

    monkeypatch.setattr(type(model), "save_pretrained", save_others)
    job = replace(job_in(tmp_path, dataset, small_model), settings=replace(SETTINGS, lora_rank=0))
    with pytest.raises(PipelineError, match=r"was to be written gives other losses than the trained one .* are kept"):
        train(job)
    assert not job.output.exists()
    assert list((job.work / "checkpoints").iterdir())


def test_half_precision_may_differ_by_its_rounding_only(small_model: Path) -> None:
    text = torch.arange(20)
    losses = losses_of(load_model(small_model), text)
    for shift, half, fits in [(0.005, False, True), (0.3, False, False), (0.3, True, True), (1.0, True, False)]:
        trained = ReadText(text, losses + shift)
        if fits:
            check_written(small_model, trained, half)
        else:
            with pytest.raises(PipelineError, match="other losses"):
                check_written(small_model, trained, half)
    with pytest.raises(PipelineError, match="nan nats"):
        check_written(small_model, ReadText(text, losses * torch.nan), half=True)


def test_the_first_piece_of_a_batch_is_read_whatever_stands_behind_it() -> None:
    ids, losses = np.arange(8).reshape(1, 8), torch.arange(8.0)[None]
    for positions, size in [([0, 1, 2, 0, 1, 0, 0, 0], 3), ([0, 1, 2, 3, 4, 5, 6, 7], 8), (None, 8)]:
        places = None if positions is None else np.array([positions])
        found = first_text(SimpleNamespace(input_ids=ids, position_ids=places), losses)  # type: ignore[arg-type]
        assert found.ids.tolist() == [*range(size)]
        assert found.losses.tolist() == [*range(size - 1)]
