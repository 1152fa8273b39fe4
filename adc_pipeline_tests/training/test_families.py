"""Any causal language model with any tokenizer: prepared, fine-tuned and loaded plainly. 15 s on one core.

Each family is a random model of two narrow layers with a tokenizer of the family's kind. The initial
weights are wide, so that a walk that saw another one in its row would show.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AddedToken,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.architectures.probes import choose_separation
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.model import MULTIPLE, prepare_base_model
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.tokenizer import train_tokenizer
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.conftest import TEXTS
from adc_pipeline_tests.training.tiny import LLAMA_SIZE

MARKERS = FORMATS["default"]
CONTEXT = 128
SETTINGS = TrainingSettings(
    sequence_length=64,
    tokens_per_step=128,
    max_steps=3,
    log_every=1,
    checkpoint_every=0,
    validation_tokens=64,
    learning_rate=1e-3,
)
FORGERY = "".join([*MARKERS.strings(), "<s></s><unk><pad><bos><eos><|endoftext|> é 🙂\n<accep", "ted>"])


def gpt2_like() -> PreTrainedTokenizerBase:
    """Byte-level BPE; one token that begins, ends and is unknown."""
    tokenizer = train_tokenizer(TEXTS, 303, CONTEXT)
    tokenizer.add_special_tokens({"bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})
    return tokenizer


def qwen_like() -> PreTrainedTokenizerBase:
    """Byte-level BPE without a beginning, and a token for padding."""
    tokenizer = train_tokenizer(TEXTS, 303, CONTEXT)
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    return tokenizer


def llama_like() -> PreTrainedTokenizerBase:
    """What SentencePiece's BPE becomes: `▁` for spaces, bytes for unknown characters, `<s>` written first."""
    specials = ["<unk>", "<s>", "</s>"]
    return _sentence_pieces(
        Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)),
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
        ),
        specials,
    )


def gemma_like() -> PreTrainedTokenizerBase:
    """Unigram without bytes: most characters are unknown, but the line break is not."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=specials, unk_token="<unk>", show_progress=False)
    return _sentence_pieces(Tokenizer(models.Unigram()), trainer, specials)


def _sentence_pieces(backend: Tokenizer, trainer: Any, specials: list[str]) -> PreTrainedTokenizerBase:
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.train_from_iterator([*TEXTS, *["ann\nyes\n"] * 40], trainer)
    # The trainer adds the bytes as special tokens, which they are not.
    described = json.loads(backend.to_str())
    described["added_tokens"] = [one for one in described["added_tokens"] if not one["content"].startswith("<0x")]
    backend = Tokenizer.from_str(json.dumps(described))
    names = {token.strip("</>"): token for token in specials}
    begin, end = names.get("bos", "<s>"), names.get("eos", "</s>")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        unk_token="<unk>",
        pad_token=names.get("pad"),
        clean_up_tokenization_spaces=False,
    )


def endless() -> PreTrainedTokenizerBase:
    """Byte-level BPE without any special token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@dataclass(frozen=True)
class Family:
    """A model type, its tokenizer, its own configuration, and how many rows its vocabulary is padded by."""

    model_type: str
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    padding: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    windows: bool = False


LLAMA_LIKE = {
    **LLAMA_SIZE,
    "max_position_embeddings": CONTEXT,
}
GPT_LIKE = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
FAMILIES = {
    "gpt2": Family("gpt2", gpt2_like, config=GPT_LIKE),
    "gptj": Family("gptj", gpt2_like, 40, {**GPT_LIKE, "rotary_dim": 8}),
    "pythia": Family("gpt_neox", gpt2_like, 2, {**LLAMA_LIKE, "tie_word_embeddings": False}),
    "llama": Family("llama", llama_like, config={**LLAMA_LIKE, "tie_word_embeddings": False}),
    "smollm2": Family("llama", gpt2_like, config={**LLAMA_LIKE, "tie_word_embeddings": True}),
    "smollm3": Family("smollm3", qwen_like, config=LLAMA_LIKE),
    "qwen2": Family("qwen2", qwen_like, 20, {**LLAMA_LIKE, "tie_word_embeddings": True}),
    "qwen3": Family("qwen3", qwen_like, 3, {**LLAMA_LIKE, "tie_word_embeddings": False}),
    "gemma": Family("gemma", gemma_like, config=LLAMA_LIKE),
    "gemma2": Family("gemma2", gemma_like, config={**LLAMA_LIKE, "sliding_window": 16}, windows=True),
    "gemma3": Family("gemma3_text", gemma_like, config={**LLAMA_LIKE, "sliding_window": 16}, windows=True),
    "slow tokenizer": Family("gpt2", ByT5Tokenizer, config=GPT_LIKE),
    "no end of text": Family("llama", endless, config=LLAMA_LIKE),
    "fewer rows than tokens": Family("llama", qwen_like, -1, LLAMA_LIKE),
}


def write_family(family: Family, folder: Path) -> None:
    tokenizer = family.tokenizer()
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(
        family.model_type,
        vocab_size=len(tokenizer) + family.padding,
        initializer_range=0.2,
        pad_token_id=None,
        **ends,
        **family.config,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class Prepared:
    family: Family
    plain: Path
    folder: Path
    facts: dict[str, Any]


@pytest.fixture(scope="module", params=FAMILIES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    family, folder = FAMILIES[request.param], tmp_path_factory.mktemp("family")
    write_family(family, folder / "plain")
    facts = prepare_base_model(BaseModelSettings(name=str(folder / "plain")), MARKERS, [], folder / "prepared")
    return Prepared(family, folder / "plain", folder / "prepared", facts)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.fast_first
def test_markers_follow_the_old_tokens_and_are_special(prepared: Prepared) -> None:
    size = len(AutoTokenizer.from_pretrained(prepared.plain))
    tokenizer = AutoTokenizer.from_pretrained(prepared.folder)
    ids = tokenizer.convert_tokens_to_ids([*MARKERS.strings()])
    assert ids == [size, size + 1, size + 2]
    assert all(tokenizer.added_tokens_decoder[one].special for one in ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == ""
    assert [one for one in tokenizer("the<rejected>walk<accepted>")["input_ids"] if one in ids] == ids[1:]


@pytest.mark.fast_first
def test_new_rows_are_the_mean_of_the_old_and_nothing_else_changes(prepared: Prepared) -> None:
    size = len(AutoTokenizer.from_pretrained(prepared.plain))
    old, new = load_model(prepared.plain), load_model(prepared.folder)
    rows = size + prepared.family.padding
    grown = rows if prepared.family.padding >= 3 else -(-(size + 3) // MULTIPLE) * MULTIPLE
    assert prepared.facts["embedding_rows"] == new.config.get_text_config().vocab_size == grown
    known = min(size, rows)
    fresh = [*range(size, size + 3), *range(rows, grown)]
    pairs = [(model.get_input_embeddings(), model.get_output_embeddings()) for model in (old, new)]
    assert (pairs[0][0].weight is pairs[0][1].weight) == (pairs[1][0].weight is pairs[1][1].weight)
    for before, after in zip(*pairs, strict=True):
        assert isinstance(before, torch.nn.Module)
        assert isinstance(after, torch.nn.Module)
        for name, table in before.named_parameters():
            grown_table = after.get_parameter(name)
            assert len(grown_table) == grown
            mean = table[:known].mean(dim=0)
            torch.testing.assert_close(grown_table[fresh], mean.expand_as(grown_table[fresh]))
            kept = [row for row in range(rows) if row not in fresh]
            assert torch.equal(grown_table[kept], table[kept])


@pytest.mark.fast_first
def test_the_folder_loads_plainly_and_speaks(prepared: Prepared) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(prepared.folder),
        AutoTokenizer.from_pretrained(prepared.folder),
    )
    ids = torch.tensor([tokenizer("the walk<rejected>goes down<accepted>")["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert logits.isfinite().all()
    assert logits.shape[-1] == prepared.facts["embedding_rows"]


@pytest.mark.fast_first
def test_no_text_forges_a_marker(prepared: Prepared) -> None:
    tokenizer = MarkerTokenizer.load(prepared.folder)
    special = {
        tokenizer.background_id,
        tokenizer.rejected_id,
        tokenizer.accepted_id,
        *tokenizer.eos_ids,
        *tokenizer.prefix_ids,
    }
    for ids in tokenizer.ids([FORGERY, *MARKERS.strings()]):
        assert ids
        assert special.isdisjoint(ids)


@pytest.mark.fast_first
def test_packed_walks_see_nothing_of_one_another(prepared: Prepared) -> None:
    model = load_model(prepared.folder).eval()
    ids = torch.arange(20, 60)[None]
    positions = torch.cat([torch.arange(15), torch.arange(25)])[None]
    with torch.no_grad():
        alone = torch.cat([model(input_ids=part).logits for part in ids.split([15, 25], dim=1)], dim=1)
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        together = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(packed, alone, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(together[:, 15:], alone[:, 15:], atol=1e-1)
    lengths, longest, row = (5, 30), 64, CONTEXT
    assert choose_separation(model, lengths, longest, row, kernel=False) == "positions"
    expected = "positions" if prepared.family.windows else "kernel"
    assert choose_separation(model, lengths, longest, row, kernel=True) == expected


@pytest.mark.slow
def test_a_fine_tune_runs_and_loads_plainly(prepared: Prepared, dataset: Path, tmp_path: Path) -> None:
    job = TrainingJob(SETTINGS, dataset, prepared.folder, tmp_path / "output", tmp_path / "work")
    facts = train(job)
    assert facts["steps"] == 3
    lines = [json.loads(line) for line in (job.work / "metrics.jsonl").read_text().splitlines()]
    assert all(torch.tensor(line["loss"]).isfinite() and line["grad_norm"] > 0 for line in lines)
    old, new = load_model(prepared.folder), AutoModelForCausalLM.from_pretrained(job.output)
    assert any(not torch.equal(one, other) for one, other in zip(old.parameters(), new.parameters(), strict=True))
    before, after = MarkerTokenizer.load(prepared.folder), MarkerTokenizer.load(job.output)
    assert (after.background_id, after.rejected_id, after.accepted_id) == (
        before.background_id,
        before.rejected_id,
        before.accepted_id,
    )


@pytest.mark.slow
def test_adapters_are_merged_on_export(prepared: Prepared, dataset: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora_rank=2, learning_rate=1e-2)
    facts = train(TrainingJob(settings, dataset, prepared.folder, tmp_path / "output", tmp_path / "work"))
    old, new = load_model(prepared.folder), load_model(tmp_path / "output")
    assert type(new) is type(old)
    assert facts["trained_parameters"] < facts["parameters"] == old.num_parameters()
    markers = MarkerTokenizer.load(prepared.folder).marker_ids
    tables = {id(model.get_input_embeddings().weight): model.get_input_embeddings() for model in (old, new)}
    tables |= {id(model.get_output_embeddings().weight): model.get_output_embeddings() for model in (old, new)}
    names = [name for name, module in new.named_modules() if id(getattr(module, "weight", None)) in tables]
    assert names
    for name, parameter in old.named_parameters():
        trained = new.get_parameter(name)
        if name.rpartition(".")[0] in names:
            if name.endswith("weight"):
                changed = (trained != parameter).any(dim=1).nonzero()[:, 0].tolist()
                assert changed == sorted(markers), name
                assert not torch.equal(trained[markers[1]], trained[markers[2]])
        elif parameter.ndim == 1:
            assert torch.equal(trained, parameter), name
        else:
            assert not torch.equal(trained, parameter) or "position" in name or "wpe" in name, name


@pytest.mark.fast_first
def test_rows_beyond_the_context_are_refused(prepared: Prepared, dataset: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(sequence_length=CONTEXT + 1, tokens_per_step=2 * CONTEXT, max_steps=1)
    with pytest.raises(PipelineError, match=f"`sequence_length` {CONTEXT + 1} is longer than the {CONTEXT} tokens"):
        train(TrainingJob(settings, dataset, prepared.folder, tmp_path / "output", tmp_path / "work"))
    assert not (tmp_path / "output").exists()


def test_a_model_that_looks_ahead_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    # Transformers loads an encoder as a causal model with a warning; its loss would be that of copying.
    config = AutoConfig.for_model("bert", hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "plain")
    AutoTokenizer.from_pretrained(plain_gpt2).save_pretrained(tmp_path / "plain")
    with pytest.raises(PipelineError, match="a BertLMHeadModel that sees the tokens it is to predict"):
        prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), MARKERS, [], tmp_path / "prepared")


@pytest.mark.slow
def test_released_markers_have_the_numbers_of_the_released_datasets(tmp_path: Path) -> None:
    # As many tokens and rows as GPT-J has: 256 bytes, 50,000 merges, the end of text; 143 rows of padding.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(first, second) for first in letters for second in letters][:50_000]
    tokens = [*letters, *(first + second for first, second in merges)]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **ends)
    assert (len(tokenizer), tokenizer.eos_token_id) == (50_257, 50_256)
    tokenizer.save_pretrained(tmp_path / "plain")
    config = AutoConfig.for_model("gptj", vocab_size=50_400, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "plain")

    settings = BaseModelSettings(name=str(tmp_path / "plain"))
    facts = prepare_base_model(settings, FORMATS["released"], [], tmp_path / "prepared")
    assert (facts["vocabulary_size"], facts["embedding_rows"]) == (50_260, 50_400)
    loaded = MarkerTokenizer.load(tmp_path / "prepared")
    assert (loaded.background_id, loaded.rejected_id, loaded.accepted_id) == (50_257, 50_258, 50_259)
    assert load_model(tmp_path / "prepared").lm_head.weight.shape[0] == 50_400


def refused(plain: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, sentence: str) -> None:
    AutoModelForCausalLM.from_pretrained(plain).save_pretrained(folder / "taken")
    tokenizer.save_pretrained(folder / "taken")
    with pytest.raises(PipelineError, match=sentence):
        prepare_base_model(BaseModelSettings(name=str(folder / "taken")), MARKERS, [], folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("taken", [["<accepted>"], [*reversed(MARKERS.strings())]])
def test_a_special_token_spelt_like_a_marker_is_refused(plain_gpt2: Path, tmp_path: Path, taken: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in taken], special_tokens=True)
    refused(plain_gpt2, tokenizer, tmp_path, "already has '<.*>' as a special token of another meaning; choose")


def test_a_marker_that_is_the_end_of_text_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in MARKERS.strings()], special_tokens=True)
    tokenizer.eos_token = "<accepted>"
    refused(plain_gpt2, tokenizer, tmp_path, "as a special token of another meaning")


def test_a_marker_in_the_vocabulary_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    vocabulary = {"a": 0, "<rejected>": 1}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="a")))
    refused(plain_gpt2, tokenizer, tmp_path, "already has '<rejected>' as an ordinary token")


def test_a_vocabulary_whose_gaps_leave_no_number_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 3}, unk_token="a")))
    refused(plain_gpt2, tokenizer, tmp_path, "have gaps")


def test_a_revision_is_pinned_to_its_commit(plain_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The Hub's cache, as two downloads leave it: a tag, and a branch that has moved on since.
    commits = {"v1": "1" * 40, "main": "2" * 40}
    stored = tmp_path / "cache" / "models--somebody--a-model"
    for number, (name, commit) in enumerate(commits.items()):
        model = AutoModelForCausalLM.from_pretrained(plain_gpt2)
        with torch.no_grad():
            model.get_parameter("transformer.ln_f.bias").fill_(number)
        model.save_pretrained(stored / "snapshots" / commit)
        AutoTokenizer.from_pretrained(plain_gpt2).save_pretrained(stored / "snapshots" / commit)
        (stored / "refs").mkdir(exist_ok=True)
        (stored / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for number, (revision, name) in enumerate([("v1", "v1"), (None, "main"), (commits["v1"], "v1")]):
        settings = BaseModelSettings(name="somebody/a-model", revision=revision)
        facts = prepare_base_model(settings, MARKERS, [], tmp_path / str(number))
        assert (facts["revision"], facts["commit"]) == (revision, commits[name])
        bias = load_model(tmp_path / str(number)).get_parameter("transformer.ln_f.bias")
        assert bias.eq([*commits].index(name)).all()
    with pytest.raises(PipelineError, match=r"\(revision v2\) cannot be loaded"):
        prepare_base_model(BaseModelSettings(name="somebody/a-model", revision="v2"), MARKERS, [], tmp_path / "v2")


def test_code_that_comes_with_a_model_is_not_run(plain_gpt2: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(plain_gpt2).save_pretrained(tmp_path / "own")
    (tmp_path / "own" / "configuration_own.py").write_text("raise SystemExit('was run')\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="cannot be loaded"):
        prepare_base_model(BaseModelSettings(name=str(tmp_path / "own")), MARKERS, [], tmp_path / "out")
