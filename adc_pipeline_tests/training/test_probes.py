"""A model is trained and scored in the way that gives each walk what it gets alone, at the lengths of the run.

Each of these mixes walks somewhere, most of them only beyond some length, which a probe of a few tokens does not see.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.architectures.attention import NAME, Separation
from adc_pipeline.training.architectures.probes import attention_of, choose_separation, without_gradient
from adc_pipeline.training.loop.devices import allow_unused_weights
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.objectives.losses import TokenLosses
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.training.texts.layout import encode_walks
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.evaluation.reference import reference
from adc_pipeline_tests.training.tiny import LLAMA_SIZE, longrope
from adc_pipeline_tests.training.walks import random_walk, write_dataset

LLAMA = {
    **LLAMA_SIZE,
    "max_position_embeddings": 256,
}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
LLAMA4 = {**LLAMA, **EXPERTS, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2, "no_rope_layers": [1, 1]}
LONGROPE = longrope(32)
NEO = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 16,
    "max_position_embeddings": 64,
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}
DBRX = {
    "d_model": 32,
    "n_heads": 2,
    "n_layers": 2,
    "max_seq_len": 256,
    "attn_config": {"kv_n_heads": 1, "rope_theta": 10000.0, "clip_qkv": 8.0},
    "ffn_config": {"ffn_hidden_size": 32, "hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
}
STATES = {**LLAMA, "num_hidden_layers": 4, "num_key_value_heads": 2, "use_mamba_kernels": False}
ZAMBA = {**STATES, "layers_block_type": ["mamba", "hybrid"] * 2, "mamba_d_state": 8, "mamba_dt_rank": 4}
NEMOTRON_H = {
    **STATES,
    "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
}
# Of each, the type, the configuration, how its walks are kept apart, and whether it is scored in prefix trees.
MODELS: dict[str, tuple[str, dict[str, Any], Separation, bool]] = {
    "attention in chunks of 24": ("llama4_text", {**LLAMA4, "attention_chunk_size": 24}, "positions", False),
    "attention in chunks of 64": ("llama4_text", {**LLAMA4, "attention_chunk_size": 64}, "kernel", True),
    "other frequencies from 32 tokens on": (
        "phi3",
        {**LLAMA, "original_max_position_embeddings": 32, "rope_parameters": LONGROPE},
        "passes",
        False,
    ),
    "a mask that is a table of the context": ("gpt_neo", NEO, "positions", False),
    "the 16 best keys": ("doge", {**LLAMA, "keep_window_size": 16}, "passes", False),
    "a window of 16": ("gemma2", {**LLAMA, "sliding_window": 16}, "positions", False),
    "sinks, and a mask that ignores positions": (
        "gpt_oss",
        {**LLAMA, **EXPERTS, "sliding_window": 16},
        "passes",
        False,
    ),
    "a bias by distance": ("bloom", SMALL, "passes", False),
    "a recurrent state": ("mamba", SMALL, "passes", False),
    "YaRN": ("llama", {**LLAMA, "rope_parameters": YARN}, "kernel", True),
    "experts of DBRX": ("dbrx", DBRX, "kernel", True),
    "states and shared attention of Zamba": ("zamba", {**ZAMBA, "n_mamba_heads": 2}, "passes", False),
    "states and attention of Nemotron-H": ("nemotron_h", NEMOTRON_H, "passes", False),
}
SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=256, max_steps=1, checkpoint_every=0, validation_tokens=4096, learning_rate=1e-4
)


def made(name: str, vocabulary: int) -> Any:
    model_type, config, *_ = MODELS[name]
    torch.manual_seed(0)
    wide = {"initializer_range": 0.2, "pad_token_id": None}
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, vocab_size=vocabulary, **wide, **config)
    ).eval()


@pytest.fixture(scope="module")
def dataset(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A validation split of walks that need not be cut."""
    walks = [random_walk(number) for number in range(120)]
    encoded = encode_walks(MarkerTokenizer.load(gpt2), walks)
    short = [walk for walk, one in zip(walks, encoded, strict=True) if len(one.ids) <= SETTINGS.sequence_length]
    assert len(short) >= 15
    return write_dataset(tmp_path_factory.mktemp("probes") / "d", train=walks[:20], validation=short[:15])


@pytest.mark.fast_first
@pytest.mark.parametrize("name", MODELS)
def test_the_separation_is_chosen_at_the_lengths_of_the_run(name: str) -> None:
    model = made(name, 200)
    own = model.config._attn_implementation
    expected = MODELS[name][2]
    assert choose_separation(model, (12, 60), 64, 256, kernel=True) == expected
    assert (model.config._attn_implementation != own) == (expected == "kernel")


@pytest.mark.parametrize(
    "name", ["attention in chunks of 24", "other frequencies from 32 tokens on", "the 16 best keys"]
)
def test_shorter_walks_do_not_meet_what_longer_ones_meet(name: str) -> None:
    assert choose_separation(made(name, 200), (5, 12), 16, 16, kernel=True) == "kernel"


# 10 s of a core more.
SLOW = "states and shared attention of Zamba"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {SLOW}))
def test_a_walk_has_the_loss_that_it_has_alone(name: str, plain_gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    """The validation loss that the training reports is the exported model's, each piece in a pass of its own."""
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    made(name, len(tokenizer)).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), FORMATS["default"], [], tmp_path / "base")
    job = TrainingJob(SETTINGS, dataset, tmp_path / "base", tmp_path / "output", tmp_path / "work")
    facts = train(job)
    assert facts["separation"] == MODELS[name][2]
    marked = MarkerTokenizer.load(job.output)
    model = AutoModelForCausalLM.from_pretrained(job.output).eval()
    losses: dict[str, list[float]] = {"background": [], "rejected": [], "accepted": []}
    for walk in encode_walks(marked, read_walks(dataset, "validation")):
        ids = torch.from_numpy(walk.ids.astype(np.int64))
        with torch.no_grad():
            found = -model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        for target, turn, loss in zip(ids[1:], walk.turn[1:], found, strict=True):
            losses["background" if turn < 0 else walk.verdicts[turn]].append(float(loss[target]))
    assert min(map(len, losses.values())) > 10
    for part, values in losses.items():
        assert facts["final"][f"validation_loss_{part}"] == pytest.approx(np.mean(values), abs=1e-3), part


@pytest.mark.fast_first
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {SLOW}))
def test_a_query_has_the_score_that_it_has_alone(name: str, gpt2: Path) -> None:
    tokenizer = MarkerTokenizer.load(gpt2)
    scorer = Scorer(made(name, len(tokenizer.tokenizer)), tokenizer, EvaluationSettings(max_context_tokens=64))
    assert (scorer.row_tokens > 0) == MODELS[name][3]
    turns = [("ann\nthe walk goes down", "rejected"), ("bo\na tree of replies", "accepted"), ("ann\neach", "accepted")]
    queries = [
        Query("op\nwritten\nafter it", tuple(turns[:count]), segment)  # type: ignore[arg-type]
        for count in range(4)
        for segment in ("cy\nits verdict", "cy\nand each turn has its verdict")
    ]
    scores = scorer.score(queries, np.ones(len(queries), dtype=bool))
    whole = scores.fits & ~scores.cut
    assert whole.sum() > 4
    expected = np.array([reference(scorer.model, tokenizer, query) for query in queries])
    found = np.stack([scores.log_probability, scores.log_odds], axis=1)
    assert found[whole] == pytest.approx(expected[whole], abs=1e-3)


@pytest.mark.slow
def test_a_run_says_how_walks_are_kept_apart(plain_gpt2: Path, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    made("a recurrent state", len(tokenizer)).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), FORMATS["default"], [], tmp_path / "base")
    train(TrainingJob(SETTINGS, dataset, tmp_path / "base", tmp_path / "output", tmp_path / "work"))
    assert "each walk has a forward pass of its own" in capsys.readouterr().out
    assert json.loads((tmp_path / "output" / "training.json").read_text())["separation"] == "passes"


def test_a_model_that_runs_no_text_is_not_called_too_short() -> None:
    model_type, config, *_ = MODELS["experts of DBRX"]
    broken = {**config, "attn_config": {**config["attn_config"], "clip_qkv": None}}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, vocab_size=200, **broken))
    with pytest.raises(PipelineError, match=r"DbrxForCausalLM, cannot be run .*: correct its config\.json"):
        choose_separation(model, (12, 60), 64, 256, kernel=False)


VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WITH_IMAGES = {
    "text_config": {**LLAMA, "vocab_size": 300},
    "vision_config": {**VISION, "image_size": 28, "patch_size": 14},
    "mm_tokens_per_image": 4,
}


@pytest.mark.parametrize(("model_type", "config", "unused"), [("gemma3", WITH_IMAGES, True), ("llama", LLAMA, False)])
def test_processes_are_told_of_weights_that_get_no_gradient(
    model_type: str, config: dict[str, Any], unused: bool
) -> None:
    """Those of an image encoder. On several processes, torch fails at the second step otherwise."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{"vocab_size": 300} | config))
    names = without_gradient(model)
    assert bool(names) == unused
    assert all("vision" in name or "multi_modal" in name for name in names)
    assert all(weight.grad is None for weight in model.parameters())
    for processes, kind, told in [(2, "MULTI_GPU", unused), (1, "NO", False), (2, "FSDP", False)]:
        accelerator: Any = SimpleNamespace(num_processes=processes, distributed_type=kind, ddp_handler=None)
        allow_unused_weights(accelerator, model)
        assert (accelerator.ddp_handler is not None) == told


def test_gradients_are_looked_for_without_the_kernel() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=300, **LLAMA))
    assert choose_separation(model, (8, 16), 32, 32, kernel=True) == "kernel"
    assert without_gradient(model) == set()
    assert model.config._attn_implementation == NAME


def test_blocks_that_a_model_does_not_have_are_not_sharded() -> None:
    """Accelerate refuses a name without a module, such as the text encoder's of SigLIP in Gemma 3."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma3", **WITH_IMAGES))
    present = {type(module).__name__ for module in model.modules()}
    found = TokenLosses(model)._no_split_modules
    assert "Gemma3DecoderLayer" in found
    assert set(found) <= present
    assert not set(model._no_split_modules) <= present


def test_only_the_language_part_changes_its_attention() -> None:
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = small | {"head_dim": 16, "global_head_dim": 16, "num_key_value_heads": 1, "vocab_size": 300}
    text |= {"vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 8}
    image = small | {"num_hidden_layers": 1, "num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 64}
    audio: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "output_proj_dims": 32,
    }
    audio |= {"subsampling_conv_channels": (8, 8)}
    config: Any = Gemma4Config(text_config=text, vision_config=image, audio_config=audio)
    model = Gemma4ForConditionalGeneration(config)
    before = [attention_of(model), config.audio_config._attn_implementation]
    # Its audio part has no scaled dot product attention: changing all parts back failed.
    assert before == ["sdpa", "eager"]
    assert choose_separation(model.eval(), (8, 12), 16, 32, kernel=True) == "positions"
    assert [attention_of(model), config.audio_config._attn_implementation] == before
