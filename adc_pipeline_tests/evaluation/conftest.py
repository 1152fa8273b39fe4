"""A small corpus with many test conversations, and a tiny model with a tokenizer of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.evaluation.cases.cases import Cases, read_cases
from adc_pipeline.evaluation.judging.judge import make_judge
from adc_pipeline.evaluation.settings import EvaluationSettings, JudgeSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import Shares
from adc_pipeline_tests.stages import read_utterances

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Stages:
    """The folders that the stages before the evaluation wrote."""

    utterances: Path
    ranked: Path
    dataset: Path
    shares: Shares = (0, 0, 100)


def run_stages(
    corpus: Path, folder: Path, kind: str = "random-walk", shares: Shares = (0, 0, 100), speakers: Speakers = "names"
) -> Stages:
    stages = Stages(folder / "utterances", folder / "ranked", folder / kind, shares)
    for path in (stages.utterances, stages.ranked, stages.dataset):
        path.mkdir(parents=True)
    write_utterances(corpus, stages.utterances)
    write_ranked_replies(stages.utterances, stages.ranked)
    write_walks(
        kind,
        stages.utterances,
        stages.ranked,
        stages.dataset,
        WalkSettings(shares=shares, speakers=speakers, mentions=speakers),
    )
    return stages


def judge_of(stages: Stages) -> Path:
    """Return the folder of the judge of a sample corpus, which is made beside the stages once."""
    folder = stages.dataset.with_name("judge")
    if not folder.exists():
        folder.mkdir()
        spill = folder / "spill"
        settings = JudgeSettings(draws=200)
        judge = make_judge(True, stages.utterances, stages.ranked, stages.shares, "default", settings, spill)
        judge.write(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_sample(folder, conversations=24)
    return folder


@pytest.fixture(scope="session")
def stages(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return run_stages(corpus, tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="session")
def cases(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    spill = tmp_path_factory.mktemp("spill")
    return read_cases(stages.dataset, stages.utterances, stages.ranked, "default", "names", EvaluationSettings(), spill)


@pytest.fixture(scope="session")
def tokenizer(stages: Stages) -> "PreTrainedTokenizerBase":
    """Byte-level BPE of 400 tokens, trained on the corpus, with the markers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text for (text,) in read_utterances(stages.utterances, "text")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(FORMATS["default"].strings())})
    return tokenizer


@pytest.fixture(scope="session")
def model_folder(tokenizer: "PreTrainedTokenizerBase", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers × 32 with random weights, large enough for its answers to differ."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
