"""What several tests of the training start from; made once."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.training.texts.tokenizer import train_tokenizer
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.walks import WORDS, random_walk, write_dataset

TEXTS = [" ".join(WORDS), " ".join(reversed(WORDS))] * 20


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("dataset") / "d",
        train=[random_walk(number) for number in range(120)],
        validation=[random_walk(number) for number in range(120, 130)],
    )


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared Llama of 1 x 32 with 300 tokens."""
    folder = tmp_path_factory.mktemp("small") / "model"
    settings = BaseModelSettings(layers=1, width=32, heads=2, vocabulary=300, context=256)
    prepare_base_model(settings, FORMATS["default"], TEXTS, folder)
    return folder


@pytest.fixture(scope="session")
def plain_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 as the Hub has it: dropout, tied embeddings, one token that begins, ends and is unknown."""
    folder = tmp_path_factory.mktemp("gpt2") / "plain"
    tokenizer = train_tokenizer(TEXTS, 303, 128)
    tokenizer.add_special_tokens({"bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2(plain_gpt2: Path) -> Path:
    """The same, prepared."""
    folder = plain_gpt2.with_name("prepared")
    prepare_base_model(BaseModelSettings(name=str(plain_gpt2)), FORMATS["default"], [], folder)
    return folder


@pytest.fixture(scope="session", params=["small_model", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> MarkerTokenizer:
    return MarkerTokenizer.load(request.getfixturevalue(request.param))
