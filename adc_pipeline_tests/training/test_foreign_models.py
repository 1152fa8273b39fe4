"""Models from elsewhere: files that are not the plain model, layers that are not linear, mixtures of experts."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.address import inside
from adc_pipeline.generation.batch import MOST_ROWS, Batch, grows, rows_at_once
from adc_pipeline.generation.decoding import WITHOUT_CACHE, continuations, runs_in_batches, stop_ids
from adc_pipeline.generation.replier import Replier
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.architectures.adapters import adapted_share, add_adapters
from adc_pipeline.training.architectures.context import context_length, stated
from adc_pipeline.training.architectures.loading import load_model, reason
from adc_pipeline.training.architectures.precision import broken_tensor, convert, stored_type, type_in_files
from adc_pipeline.training.architectures.probes import choose_separation, counts_from_zero, knows, writes_as_it_reads
from adc_pipeline.training.architectures.weight_files import surplus_weight
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.loop.utilization import flops_per_token
from adc_pipeline.training.model import _widen, check_base_model, prepare_base_model
from adc_pipeline.training.objectives.losses import TokenLosses, auxiliary_weight
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.tokenizer import marker_ids
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.tiny import LLAMA_SIZE, longrope

MARKERS = FORMATS["default"]
SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=128, max_steps=2, log_every=1, checkpoint_every=0, learning_rate=1e-3
)
LLAMA: dict[str, Any] = {
    **LLAMA_SIZE,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": None,
}
MIXTRAL: dict[str, Any] = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
LLAMA4: dict[str, Any] = {
    **LLAMA,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "intermediate_size_mlp": 64,
    "interleave_moe_layer_step": 1,
    "no_rope_layers": [1, 1],
    "attention_chunk_size": 128,
}


def write_plain(folder: Path, tokenizer: Path, model_type: str = "llama", **config: Any) -> Path:
    """A random model, as transformers writes it."""
    known = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": known.eos_token_id}
    made = AutoConfig.for_model(model_type, vocab_size=len(known), **ends, **(config or LLAMA))
    AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    known.save_pretrained(folder)
    return folder


def prepared(plain: Path) -> Path:
    folder = plain.with_name("prepared")
    prepare_base_model(BaseModelSettings(name=str(plain)), MARKERS, [], folder)
    return folder


def job_in(folder: Path, dataset: Path, base: Path, **settings: Any) -> TrainingJob:
    return TrainingJob(replace(SETTINGS, **settings), dataset, base, folder / "output", folder / "work")


# --- Files that are not the whole, plain model --------------------------------------------------------


def renamed(folder: Path, name: Callable[[str], str | None]) -> None:
    """Give the tensors of a model other names, or leave them out."""
    tensors = {new: tensor for old, tensor in load_file(folder / "model.safetensors").items() if (new := name(old))}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            lambda name: f"_orig_mod.{name}",
            r"is incomplete: 21 of its 21 tensors are missing, such as lm_head.weight, and there are others, such as"
            r" _orig_mod.lm_head.weight; save",
        ),
        (lambda name: f"module.{name}", "is incomplete: 21 of its 21 tensors are missing"),
        (
            lambda name: None if name == "lm_head.weight" else name,
            "is incomplete: 1 of its 21 tensors are missing, such as lm_head.weight; save",
        ),
        (lambda name: None if ".1.mlp" in name else name, "is incomplete: 3 of its 21 tensors are missing"),
    ],
)
def test_a_model_whose_tensors_are_missing_is_refused(
    name: Callable[[str], str | None], said: str, plain_gpt2: Path, tmp_path: Path
) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2, **LLAMA, tie_word_embeddings=False)
    renamed(plain, name)
    with pytest.raises(PipelineError, match=said):
        prepared(plain)
    assert not (tmp_path / "prepared").exists()
    with pytest.raises(PipelineError, match=r"The model in .* is incomplete"):
        load_model(plain)


def test_tied_embeddings_are_not_missing(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2, **LLAMA, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(plain / "model.safetensors")
    prepared(plain)


def test_output_embeddings_that_the_files_hold_are_kept(plain_gpt2: Path, tmp_path: Path) -> None:
    """The configuration ties them to the input's, and transformers would drop them once the vocabulary grows."""
    plain = write_plain(tmp_path / "plain", plain_gpt2, **LLAMA, tie_word_embeddings=False)
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    head = load_file(plain / "model.safetensors")["lm_head.weight"]
    model = load_model(prepared(plain))
    assert model.lm_head.weight[: len(head)].equal(head)
    assert not model.config.tie_word_embeddings


def test_a_configuration_of_another_size_is_a_sentence(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(PipelineError, match=r"'.*plain' \(revision main\) cannot be loaded \("):
        prepared(plain)


def test_weights_that_would_not_fit_their_configuration_are_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    # transformers widens Marian's embeddings, but not the size of the decoder's vocabulary in its configuration.
    config = {**BART, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "pad_token_id": 0}
    plain = write_plain(tmp_path / "plain", plain_gpt2, "marian", **config)
    with pytest.raises(
        PipelineError, match=r"markers cannot be added \(model.decoder.embed_tokens.weight is \(320, 32\)"
    ):
        prepared(plain)


@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_is_refused_by_name(alone: bool, plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    adapter = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    get_peft_model(AutoModelForCausalLM.from_pretrained(plain), adapter).save_pretrained(str(plain))
    if alone:
        (plain / "config.json").unlink()
        (plain / "model.safetensors").unlink()
    for refused in (
        lambda: check_base_model(BaseModelSettings(name=str(plain))),
        lambda: prepared(plain),
        lambda: load_model(plain),
        lambda: inside(plain, "THERE"),
    ):
        with pytest.raises(PipelineError, match=r"contains a PEFT adapter \(adapter_config.json\)"):
            refused()
    for left in plain.glob("adapter_*"):
        left.unlink()
    if not alone:
        prepared(plain)


def test_weights_that_are_not_finite_are_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    tensors = load_file(plain / "model.safetensors")
    tensors["model.norm.weight"][3] = math.nan
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PipelineError, match=r"has weights that are not finite \(model.norm.weight\)"):
        prepared(plain)


# --- Adapters on layers that are not linear -----------------------------------------------------------


@pytest.mark.slow
def test_adapters_leave_out_a_router_that_returns_two_things(plain_gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    base = prepared(write_plain(tmp_path / "plain", plain_gpt2, "llama4_text", **LLAMA4))
    job = job_in(tmp_path, dataset, base, lora_rank=2, learning_rate=1e-2)
    train(job)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, job.output))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if "self_attn" in name and name.endswith("proj.weight")} <= changed
    assert not any("router" in name for name in changed)


class Squared(torch.nn.Linear):
    """A linear layer that is not x W + b."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).square()


class Spelt(torch.nn.Linear):
    """A linear layer with a forward pass of its own, as Falcon has."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input @ self.weight.T


def test_adapters_stand_beside_plainly_linear_layers_only(small_model: Path) -> None:
    model = load_model(small_model)
    model.model.layers[0].mlp.up_proj.__class__ = Squared
    model.model.layers[0].mlp.down_proj.__class__ = Spelt
    add_adapters(model, replace(SETTINGS, lora_rank=2), [297, 298, 299])
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "down_proj",
    }


@pytest.mark.parametrize("shared", ["layer", "weight"])
def test_no_adapter_stands_beside_a_weight_that_several_layers_use(shared: str, small_model: Path) -> None:
    """It would be merged into all of them: Zamba's shared blocks got the adapters of two places."""
    model = load_model(small_model)
    attention = model.model.layers[0].self_attn
    if shared == "layer":
        attention.v_proj = attention.k_proj
    else:
        attention.v_proj.weight = attention.k_proj.weight
    add_adapters(model, replace(SETTINGS, lora_rank=2), [297, 298, 299])
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def adapted(model_type: str, config: dict[str, Any], **settings: Any) -> Any:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, vocab_size=300, **config))
    add_adapters(model, replace(SETTINGS, lora_rank=2, **settings), [297, 298, 299])
    return model


def test_layers_that_peft_refuses_to_adapt_are_left_out() -> None:
    """It refuses the output of Mamba's layers, whose weight a kernel reads past an adapter."""
    names = {name for name, _ in adapted("mamba", {"hidden_size": 16, "num_hidden_layers": 1}).named_parameters()}
    assert any("in_proj.lora_A" in name for name in names)
    assert not any("out_proj.lora_A" in name for name in names)


def test_the_share_of_adapted_weights_tells_of_experts_without_adapters() -> None:
    without, beside = (adapted_share(adapted(each, MIXTRAL)) for each in ("gpt_oss", "mixtral"))
    assert "model.layers.mlp.experts.gate_up_proj" in without.others
    assert "without adapters stay model.layers.mlp.experts.gate_up_proj" in str(without)
    assert without.adapted + sum(without.others.values()) == pytest.approx(1)
    assert without.adapted < 0.2 < beside.adapted
    assert not any("experts" in name for name in beside.others)


def test_dropout_that_experts_adapters_do_not_have_is_named() -> None:
    with pytest.raises(PipelineError, match=r"`lora_dropout` 0.1 does not work with the experts .*; set it to 0"):
        adapted("mixtral", MIXTRAL, lora_dropout=0.1)


# --- The auxiliary loss of a mixture of experts -------------------------------------------------------


def trained_with(weight: float, base: Path, dataset: Path, folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """The weights of a training whose base model asks for so much of the auxiliary loss."""
    asking = folder / "base"
    asking.mkdir(parents=True)
    for path in base.iterdir():
        (asking / path.name).symlink_to(path)
    config = json.loads((base / "config.json").read_text())
    (asking / "config.json").unlink()
    (asking / "config.json").write_text(json.dumps({**config, "router_aux_loss_coef": weight}))
    job = job_in(folder, dataset, asking, **settings)
    facts = train(job)
    assert facts["auxiliary_loss"] == (f"added with weight {weight:g}" if weight else None)
    return load_file(job.output / "model.safetensors")


@pytest.mark.slow
def test_the_auxiliary_loss_that_a_model_asks_for_is_learned(plain_gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2, "mixtral", **MIXTRAL, output_router_logits=True)
    base = prepared(plain)
    found = {weight: trained_with(weight, base, dataset, tmp_path / str(weight)) for weight in (0.0, 0.01, 10.0)}
    routers = [name for name in found[0.0] if name.endswith("gate.weight")]
    assert len(routers) == 2
    for name in routers:
        assert not torch.equal(found[0.0][name], found[0.01][name])
        assert not torch.equal(found[0.01][name], found[10.0][name])
    again = trained_with(10.0, base, dataset, tmp_path / "recomputed", gradient_checkpointing=True)
    for name, tensor in found[10.0].items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-4, atol=1e-5)
    # Nothing of it is asked for, and nothing changes, without the request.
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "output_router_logits": False}))
    job = job_in(tmp_path / "unasked", dataset, base)
    assert train(job)["auxiliary_loss"] is None
    for name, tensor in load_file(job.output / "model.safetensors").items():
        assert torch.equal(tensor, found[0.0][name])


def test_the_gradient_of_the_auxiliary_loss_is_transformers_own(plain_gpt2: Path, tmp_path: Path) -> None:
    from adc_pipeline.training.rows.batches import build_batch
    from adc_pipeline.training.rows.packing import cut_into_pieces, pack
    from adc_pipeline_tests.training.test_packing import split_of

    plain = write_plain(tmp_path / "plain", plain_gpt2, "mixtral", **MIXTRAL, output_router_logits=True)
    model = AutoModelForCausalLM.from_pretrained(plain)
    model.config.router_aux_loss_coef = 0.5
    setattr(model, "router_aux_loss_coef", 0.5)  # noqa: B010, a number where PyTorch declares modules
    split = split_of([[3, 5, 9]])
    pieces = cut_into_pieces(split, 32)
    batch = build_batch(split, pieces, pack(pieces.lengths, 32, 0, 0), 17).to(torch.device("cpu"))
    losses, auxiliary = TokenLosses(model, auxiliary_weight(model))(batch)
    assert auxiliary is not None
    ours = (losses * batch.weights).sum() / batch.weights.sum() + auxiliary
    expected = model(input_ids=batch.input_ids, labels=batch.input_ids).loss
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_auxiliary_loss_that_a_model_cannot_compute_is_named(
    plain_gpt2: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2, "llama4_text", **LLAMA4, output_router_logits=True)
    facts = train(job_in(tmp_path, dataset, prepared(plain)))
    assert facts["auxiliary_loss"] == "excluded, its code computes none"
    assert "Auxiliary loss of the routers, which the base model asks for: excluded" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_with_an_auxiliary_loss_replies(plain_gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    base = prepared(write_plain(tmp_path / "plain", plain_gpt2, "mixtral", **MIXTRAL, output_router_logits=True))
    replier = Replier.load(inside(base, "THERE"))
    reply = replier.reply(replier.about("A title\nand a text"), Sampling(max_new_tokens=12, seed=0))
    assert reply.turn
    # A batch, as the evaluation draws its samples.
    prompts = replier.tokenizer.ids(["a walk", "the walk goes down a tree"])
    stops, likeliest = stop_ids(replier.tokenizer), Sampling(temperature=0, max_new_tokens=5)
    drawn = continuations(replier.model, prompts, stops, likeliest)
    alone = [continuations(replier.model, [prompt], stops, likeliest) for prompt in prompts]
    assert [[ids] for ids in drawn] == alone


# --- What a model cannot do, asked of the model -------------------------------------------------------


def tiny(model_type: str, vocabulary: int = 60, **config: Any) -> Any:
    torch.manual_seed(0)
    made = AutoConfig.for_model(model_type, **{"vocab_size": vocabulary, "initializer_range": 0.2, **config})
    return AutoModelForCausalLM.from_config(made).eval()


BART = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "init_std": 0.5,
}
RWKV = {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}
ROBERTA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "is_decoder": True,
}


LONGROPE = {**LLAMA, "original_max_position_embeddings": 9, "rope_parameters": longrope(9)}
# Without a layer that attends, with which transformers fails where it asks its cache for a length.
BAMBA = {**LLAMA, "attn_layer_indices": [], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}


def test_values_that_differ_from_layer_to_layer_are_not_read() -> None:
    # Of transformers' Gemma 4, `config.head_dim` raises a RuntimeError.
    types = ["sliding_attention", "full_attention"]
    own = {"layer_types": types, "global_head_dim": 32, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 60}
    model = tiny("gemma4_text", **LLAMA | own, hidden_size_per_layer_input=8, sliding_window=16)
    with pytest.raises(RuntimeError, match="per-layer attribute"):
        getattr(model.config, "head_dim", None)
    assert stated(model, "head_dim") is None
    assert flops_per_token(model, 10.0) > 0
    assert rows_at_once(model, 100) == MOST_ROWS


def test_a_model_without_a_limit_has_no_context() -> None:
    assert context_length(SimpleNamespace(config=AutoConfig.for_model("xlnet"))) is None  # type: ignore[arg-type]


def test_a_table_of_positions_that_is_shorter_than_stated_is_a_sentence() -> None:
    model = tiny("gpt2", n_embd=32, n_layer=1, n_head=2, n_positions=32)
    model.config.n_positions = 64
    with pytest.raises(PipelineError, match=r"GPT2LMHeadModel, cannot run a text of 50 tokens \(.*lower `sequ"):
        choose_separation(model, (5, 50), 64, 64, kernel=True)


def test_a_model_whose_positions_do_not_begin_at_0_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    assert counts_from_zero(tiny("gpt2", n_embd=32, n_layer=1, n_head=2))
    assert counts_from_zero(tiny("bloom", hidden_size=32, n_layer=1, n_head=2))
    plain = write_plain(tmp_path / "plain", plain_gpt2, "roberta", **ROBERTA, pad_token_id=1)
    with pytest.raises(PipelineError, match="a RobertaForCausalLM, whose positions do not begin at 0"):
        prepared(plain)


def test_a_model_whose_language_part_cannot_be_loaded_by_itself_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    text: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 300}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "cross_attention_layers": [1]}
    image: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_global_layers": 1, "attention_heads": 2}
    image |= {"intermediate_size": 32, "vision_output_dim": 64, "image_size": 28, "intermediate_layers_indices": [0]}
    shutil.copytree(plain_gpt2, tmp_path / "plain", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    MllamaForConditionalGeneration(MllamaConfig(text_config=text, vision_config=image)).save_pretrained(
        tmp_path / "plain"
    )
    with pytest.raises(PipelineError, match=r"language part \(mllama_text_model\) transformers cannot load once it is"):
        prepared(tmp_path / "plain")


def test_a_decoder_of_music_is_no_language_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "musicgen"}))
    with pytest.raises(PipelineError, match="is a musicgen model, which is not a causal language model; choose one"):
        check_base_model(BaseModelSettings(name=str(tmp_path)))
    # Of several parts too, but one is for text.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    check_base_model(BaseModelSettings(name=str(tmp_path)))


def test_a_model_that_would_write_something_else_than_it_reads_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    assert writes_as_it_reads(tiny("gpt2", n_embd=32, n_layer=1, n_head=2))
    # Its own number of beams is no fault, and stays.
    several: dict[str, Any] = BART
    bart = tiny("bart", **several)
    bart.generation_config.num_beams = 4
    assert writes_as_it_reads(bart)
    assert bart.generation_config.num_beams == 4
    xlm: dict[str, Any] = {
        "emb_dim": 32,
        "n_layers": 1,
        "n_heads": 2,
        "causal": True,
        "use_lang_emb": False,
        "n_langs": 1,
    }
    plain = write_plain(tmp_path / "plain", plain_gpt2, "xlm", **xlm)
    with pytest.raises(PipelineError, match="a XLMWithLMHeadModel, of which `generate` of transformers gives other"):
        prepared(plain)
    xlnet: dict[str, Any] = {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32, "attn_type": "uni"}
    assert not writes_as_it_reads(tiny("xlnet", **xlnet))


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("bart", BART),
        ("rwkv", RWKV),
        ("phi3", LONGROPE),
        pytest.param("bamba", BAMBA, marks=pytest.mark.slow),
        ("llama", LLAMA),
    ],
)
def test_prompts_are_one_batch_only_where_each_gets_what_it_gets_alone(model_type: str, config: dict[str, Any]) -> None:
    model = tiny(model_type, **config)
    assert runs_in_batches(model, 12) == (model_type in ("llama", "bamba"))
    prompts, stops = [[7, 20, 31, 4, 9, 50, 11, 3], [5, 44]], [1, 2]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        while len(ids) < len(prompt) + 4 and ids[-1] not in stops:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].detach()
            if len(ids) == len(prompt):
                logits[stops] = -math.inf
            ids.append(int(logits.argmax()))
        expected.append(ids[len(prompt) :])
    assert continuations(model, prompts, stops, Sampling(temperature=0, max_new_tokens=4)) == expected
    for grown in {False, grows(model, 12)}:
        batch = Batch(model, stops, Sampling(0.0, 1.0, 4), grown)
        assert batch.draw(prompts, np.full((2, 4), 0.5)) == expected
    assert (model in WITHOUT_CACHE) == (model_type == "bamba")


def test_logits_that_are_not_finite_draw_no_token() -> None:
    model = tiny("llama", **LLAMA)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    for grown in (True, False):
        with pytest.raises(PipelineError, match="gives logits that are not finite"):
            Batch(model, [1], Sampling(0.5), grown).draw([[5, 6]], np.full((1, 200), 0.5))
    with pytest.raises(PipelineError, match="gives logits that are not finite"):
        continuations(model, [[5, 6]], [1], Sampling(temperature=0))


def test_a_head_with_fewer_rows_than_the_embeddings_grows_with_them(plain_gpt2: Path) -> None:
    # As of Llama 3.2 Vision, which reads eight tokens that it cannot write.
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    model = tiny("llama", len(tokenizer) + 8, **LLAMA, tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, len(tokenizer), bias=False)
    _widen(model, tokenizer, MARKERS)
    assert knows(model, marker_ids(tokenizer, MARKERS))


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", None])
def test_a_quantized_model_is_refused_by_name(method: str | None, plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    config = json.loads((plain / "config.json").read_text())
    quantized = {"quant_method": method, "bits": 4, "group_size": 128} if method else {"bits": 4}
    (plain / "config.json").write_text(json.dumps({**config, "quantization_config": quantized}))
    with pytest.raises(PipelineError, match=rf"is quantized \({method or 'no method is named'}\), and such weights"):
        prepared(plain)


def test_weights_stored_as_integers_are_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    tensors = load_file(plain / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(32, dtype=torch.int8)
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PipelineError, match=r"stored as integers \(model.norm.weight: I8\)"):
        prepared(plain)


@pytest.mark.parametrize("foreign", ["../model.safetensors", "/model.safetensors"])
def test_an_index_that_leads_out_of_its_folder_is_refused(foreign: str, plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    (plain / "model.safetensors").rename(tmp_path / "model.safetensors")
    weights = dict.fromkeys(load_file(tmp_path / "model.safetensors"), foreign)
    (plain / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    with pytest.raises(PipelineError, match="leads out of its folder"):
        prepared(plain)


def test_one_file_of_weights_beside_shards_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    weights = dict.fromkeys(load_file(plain / "model.safetensors"), "model-00001-of-00001.safetensors")
    shutil.copy(plain / "model.safetensors", plain / "model-00001-of-00001.safetensors")
    (plain / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    with pytest.raises(PipelineError, match=r"has two sets of weights, model\.safetensors and the shards"):
        prepared(plain)
    (plain / "model.safetensors").unlink()
    prepared(plain)
    save_file({"model.norm.weight": torch.ones(32)}, plain / "model-2.safetensors", metadata={"format": "pt"})
    other = {"metadata": {}, "weight_map": weights | {"model.norm.weight": "model-2.safetensors"}}
    (plain / "model.safetensors.index.json").write_text(json.dumps(other))
    with pytest.raises(PipelineError, match=r"has model\.norm\.weight in two files, model-00001-of-00001\.safe"):
        prepared(plain)


def test_weights_of_layers_that_the_configuration_lacks_are_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2, **{**LLAMA, "num_hidden_layers": 2})
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1, "layer_types": None}))
    with pytest.raises(PipelineError, match=r"no place for \(model\.layers\.1\.[a-z_.]+\)"):
        prepared(plain)


def test_only_what_belongs_to_the_layers_is_surplus() -> None:
    names = ["model.layers.0.norm.weight", "model.layers.1.norm.weight", "head.weight"]
    assert surplus_weight(names, ["mtp.layers.0.norm.weight", "model.layers.1.rotary", "vision.weight"]) == ""
    assert surplus_weight(names, ["model.layers.2.norm.weight"]) == "model.layers.2.norm.weight"
    # Norms of queries, as of Qwen3, and biases, as of Qwen2, in a model that is read as a Llama.
    for other in ("model.layers.0.q_norm.weight", "model.layers.1.norm.bias", "head.bias"):
        assert surplus_weight(names, [other]) == other
    # The mask of GPT-Neo.
    assert surplus_weight(names, ["model.layers.0.attention.bias", "model.layers.0.attention.masked_bias"]) == ""
    # Of a quantized checkpoint whose configuration does not say so any more.
    for scale in ("model.layers.0.mlp.up.weight_scale_inv", "model.layers.0.mlp.up.weight.absmax"):
        assert surplus_weight([*names, "model.layers.0.mlp.up.weight"], [scale]) == scale
    # Adapters that were not merged, by PEFT and by loralib, and the correction of a router.
    for own in (
        "norm.lora_A",
        "norm.lora_A.default.weight",
        "norm.e_score_correction_bias",
        "norm.modules_to_save.a.bias",
    ):
        assert surplus_weight(names, [f"model.layers.0.{own}"]) == f"model.layers.0.{own}"
    assert surplus_weight(names, ["head.modules_to_save.default.weight"])
    assert surplus_weight(["head.weight"], ["model.layers.0.norm.weight"]) == "model.layers.0.norm.weight"


def test_weights_that_are_too_large_for_float16_are_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    tensors = load_file(plain / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    with pytest.raises(PipelineError, match=r"too large for float16 \(model.norm.weight\).*set `precision`"):
        prepared(plain)
    prepare_base_model(BaseModelSettings(name=str(plain), precision="float32"), MARKERS, [], tmp_path / "prepared")


class Routed(torch.nn.Module):
    """A model whose router transformers keeps in float32, as DeepSeek V3's, and whose norm in float16 only."""

    _keep_in_fp32_modules_strict = ("gate.bias*",)
    _keep_in_fp32_modules = ("norm",)

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.norm, self.down = (torch.nn.Linear(3, 3) for _ in range(3))


def test_weights_that_stay_in_float32_are_not_rounded() -> None:
    for dtype, expected in [
        (torch.bfloat16, {"gate.bias"}),
        (torch.float16, {"gate.bias", "norm.weight", "norm.bias"}),
        (torch.float32, {"gate.bias", "gate.weight", "norm.weight", "norm.bias", "down.weight", "down.bias"}),
    ]:
        model = Routed()
        before = {name: tensor.clone() for name, tensor in model.named_parameters()}
        convert(model, dtype)
        after = dict(model.named_parameters())
        assert {name for name in after if after[name].dtype == torch.float32} == expected
        assert all(torch.equal(after[name], before[name]) for name in expected)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_type_that_no_configuration_names_is_that_of_the_files(name: str, tmp_path: Path) -> None:
    assert type_in_files(tmp_path) is None
    weights = {"a": torch.zeros(4, 4, dtype=torch.bfloat16), "b": torch.zeros(4)}
    if name.endswith("bin"):
        torch.save(weights, tmp_path / name)
    else:
        save_file(weights, tmp_path / name)
    assert type_in_files(tmp_path) == torch.bfloat16
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert stored_type(str(tmp_path), local_files_only=True) == torch.bfloat16
    (tmp_path / "config.json").write_text('{"model_type": "llama", "dtype": "float16"}')
    assert stored_type(str(tmp_path), local_files_only=True) == torch.float16


def test_a_configuration_that_cannot_be_saved_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", plain_gpt2)
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "output_attentions": True}))
    with pytest.raises(PipelineError, match=r"transformers cannot save .*output_attentions.*correct its config.json"):
        prepared(plain)


def test_a_saved_buffer_that_is_not_finite_is_found() -> None:
    model = torch.nn.BatchNorm1d(2)
    assert broken_tensor(model) is None
    model.running_mean = torch.tensor([0.0, math.nan])
    assert broken_tensor(model) == "running_mean"
    # A bound that does not bind.
    model.running_mean = torch.tensor([0.0, -math.inf])
    assert broken_tensor(model) is None
    torch.nn.init.constant_(model.weight, math.inf)
    assert broken_tensor(model) == "weight"


def test_a_missing_key_is_a_reason_in_words() -> None:
    assert reason(KeyError("weight_map")) == "'weight_map' is missing, or it is not known"
