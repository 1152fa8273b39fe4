"""Reward models: batched scores equal those of one text at a time, and what is no reward model is refused."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.judging import reward
from adc_pipeline.evaluation.judging.judge import MODEL, Judge, make_judge
from adc_pipeline.evaluation.judging.named_models import NamedModel
from adc_pipeline.evaluation.judging.reward import RewardModel, batches, filled, post_of
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.evaluation.split_scores import text_scorers
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POSTS = ["Why does it leak?", "", "Why " * 40]
REPLIES = ["Turn it off and wait.", "lol", "It is the {post} valve, " * 12]


@pytest.fixture(scope="module")
def tiny(tokenizer: "PreTrainedTokenizerBase", tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Randomly initialised models by kind: one label, two labels, five, text-to-text, and a causal model."""
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, T5Config
    from transformers import T5ForConditionalGeneration as T5

    torch.manual_seed(0)
    shape: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96, "initializer_range": 0.5}
    shape |= {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    models: dict[str, Any] = {}
    for name, labels in (("one", 1), ("two", 2), ("five", 5)):
        own: dict[str, Any] = {**shape, "num_labels": labels}
        models[name] = GPT2ForSequenceClassification(GPT2Config(**own))
    models["causal"] = GPT2LMHeadModel(GPT2Config(**shape))
    small: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    small |= dict.fromkeys(("decoder_start_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    models["text"] = T5(T5Config(vocab_size=len(tokenizer), initializer_factor=5.0, **small))
    folder = tmp_path_factory.mktemp("rewards")
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in models}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "two", "text"])
def test_scores_in_batches_equal_those_of_one_text_at_a_time(
    tiny: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    found = RewardModel.load(str(tiny[kind]), "")
    assert found.longest == (1024 if kind == "text" else 96)
    monkeypatch.setattr(reward, "BATCH_TOKENS", 120)
    scores = found.scores(POSTS, REPLIES)
    assert len(set(scores.round(4))) == 3
    for post, reply, score in zip(POSTS, REPLIES, scores, strict=True):
        text = f"{post}<|end|>{reply}"
        if kind == "text":
            text = f"POST: {post}\n\n RESPONSE A: {reply}\n\n RESPONSE B: .\n\n Which response is better? RESPONSE"
        ids = torch.tensor([found.tokenizer(text)["input_ids"][-found.longest :]])
        with torch.inference_mode():
            if kind == "text":
                start = torch.tensor([[found.model.config.decoder_start_token_id]])
                logits = found.model(input_ids=ids, decoder_input_ids=start).logits[0, -1]
                first, second = (found.tokenizer(answer)["input_ids"][-1] for answer in "AB")
                expected = logits[first] - logits[second]
            else:
                logits = found.model(input_ids=ids).logits[0]
                expected = logits[0] if kind == "one" else logits[1] - logits[0]
        assert score == pytest.approx(float(expected), abs=1e-4)
    assert found.scores([], []).tolist() == []


@pytest.mark.slow
def test_what_is_no_reward_model_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    def refused(folder: Path, sentence: str) -> None:
        with pytest.raises(PipelineError, match=sentence):
            reward.prepare_reward_model(NamedModel("reward_model", str(folder)), "", tmp_path / "out")

    refused(tiny["five"], "has 5 labels, of which none is a score")
    refused(tiny["causal"], "GPT2LMHeadModel, which does not score a text")
    # A causal model that says it is a classifier has no head.
    config = json.loads((tiny["causal"] / "config.json").read_text())
    config |= {"architectures": ["GPT2ForSequenceClassification"], "num_labels": 1}
    (tiny["causal"] / "config.json").write_text(json.dumps(config))
    refused(tiny["causal"], "incomplete: it has no tensor score.weight")
    # A pickle is not read.
    import torch

    weights = tiny["five"] / "model.safetensors"
    torch.save({}, tiny["five"] / "pytorch_model.bin")
    weights.unlink()
    config = json.loads((tiny["five"] / "config.json").read_text())
    (tiny["five"] / "config.json").write_text(json.dumps({**config, "id2label": {"0": "LABEL_0"}, "num_labels": 1}))
    refused(tiny["five"], "cannot be loaded .* that its weights are safetensors")
    with pytest.raises(PipelineError, match="is a path without a folder"):
        NamedModel("reward_model", "/nowhere/at/all").check()
    NamedModel("reward_model", "owner/name").check()


def test_a_template_is_filled_once() -> None:
    assert filled("{post}{eos}{reply} {other} {", "a {reply}", "b {post}", "<e>") == "a {reply}<e>b {post} {other} {"


def test_batches_hold_every_text_once_and_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "BATCH_TOKENS", 20)
    lengths = [3, 30, 5, 5, 9, 1]
    found = list(batches(lengths))
    assert sorted(place for batch in found for place in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 20 for batch in found)


def test_a_reply_is_to_the_last_turn_or_the_post() -> None:
    assert post_of("ann\nA title\nand text", (), True) == "A title\nand text"
    assert post_of("ann\nA title", (("bob\nyes", "accepted"), ("cy\nno\nreally", "rejected")), True) == "no\nreally"
    assert post_of("A title", (("yes", "accepted"),), False) == "yes"


@pytest.mark.slow
def test_a_reward_model_judges_in_place_of_the_words(tiny: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    stages: Stages = run_stages(corpus, tmp_path / "stages", shares=(40, 30, 30))
    settings, folder = JudgeSettings(draws=200, max_pairs=100), tmp_path / "judge"
    facts = reward.prepare_reward_model(NamedModel("reward_model", str(tiny["one"])), "", folder / MODEL)
    judge = make_judge(
        False, stages.utterances, stages.ranked, stages.shares, "default", settings, tmp_path / "spill",
        reward=(folder, facts),
    )  # fmt: skip
    judge.write(folder)
    read = Judge.read(folder)
    assert (read.kind, read.facts["template"]) == ("model", "{post}{eos}{reply}")
    # Random weights tell nothing.
    assert "not testable" in read.objection()
    assert read.accuracy.cases > 30
    assert read.baseline is not None
    assert read.baseline.kind == "words"
    model = RewardModel.load(str(tiny["one"]), "")
    raw = model.scores(POSTS, REPLIES)
    scores, parses = read.scores([*REPLIES, " "], [*POSTS, ""])
    expected = (raw - read.facts["mean"]) / read.facts["deviation"]
    assert scores[:3] == pytest.approx(expected)
    assert (scores[3], parses.tolist()) == (read.worst, [True, True, True, False])
    assert read.digest != Judge.read(folder / "words").digest
    assert np.isfinite(read.span)
    # The baselines of an evaluation: the model reads the turn that is replied to, and its scores are kept.
    cache, none = tmp_path / "cache", tmp_path
    job = EvaluationJob(none, none, none, none, none, judge=folder, reward_cache=cache)
    queries = [Query("ann\nA post", (("bob\nA turn", "accepted"),), "cy\nlol"), Query("ann\nA post", (), "cy\nlol")]
    scorers = text_scorers(job)
    assert list(scorers) == ["words", "reward"]
    for _ in range(2):
        assert scorers["reward"](queries, ["lol"] * 2) == pytest.approx(model.scores(["A turn", "A post"], ["lol"] * 2))
        assert len(list(cache.iterdir())) == 1
