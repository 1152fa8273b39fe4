"""Whole fine-tunes: what they write, that they learn, go on after a kill, and stop with a sentence."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.processes import PRESETS, environment
from adc_pipeline_tests.training.walks import random_walk, walk, write_dataset

SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=256, max_steps=30, log_every=7, checkpoint_every=10, validate_every=20
)

# What a bare GPU machine lacks; None in sys.modules is a package that is not installed.
WITHOUT = """
import runpy, sys
for name in ("pydantic", "dagster", "dagster_pipes", "mlflow", "duckdb", "datasets", "convokit", "pandas",
             "scipy", "sklearn", "matplotlib"):
    sys.modules[name] = None
sys.argv = ["adc_pipeline.training", sys.argv[1]]
runpy.run_module("adc_pipeline.training", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """Models of this size gain nothing from a second core, and lose much where it has something else to do."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


def job_in(folder: Path, dataset: Path, model: Path, settings: TrainingSettings = SETTINGS) -> TrainingJob:
    return TrainingJob(settings, dataset, model, folder / "output", folder / "work")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def metrics(job: TrainingJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.work / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_fine_tune_learns_and_loads_plainly(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    job = job_in(tmp_path, dataset, small_model)
    facts = train(job)
    assert json.loads((job.output / "training.json").read_text()) == facts
    assert facts["steps"] == 30
    assert 200 < facts["tokens_per_step"] <= 256
    assert facts["train"]["walks"] == 120
    lines = metrics(job)
    assert [line["step"] for line in lines] == [7, 10, 14, 20, 21, 28, 30]
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    for part in ("background", "rejected", "accepted"):
        assert lines[-1][f"validation_loss_{part}"] < lines[0][f"loss_{part}"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(job.output), AutoTokenizer.from_pretrained(job.output)
    loss = model(
        **tokenizer(random_walk(500)["text"], return_tensors="pt", return_token_type_ids=False),
        labels=tokenizer(random_walk(500)["text"], return_tensors="pt")["input_ids"],
    ).loss
    assert loss.item() < lines[0]["loss"] - 1
    assert not list(tmp_path.rglob("*.partial"))


def test_the_division_into_passes_does_not_change_the_step(plain_gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    # A model with an attention window, whose walks therefore lie in padded rows: passes of one row hold
    # different numbers of tokens, and the step's loss is normalised over those of all its passes.
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_sliding_window=True,
        sliding_window=16,
        max_window_layers=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "qwen2")
    tokenizer.save_pretrained(tmp_path / "qwen2")
    base = BaseModelSettings(name=str(tmp_path / "qwen2"))
    prepare_base_model(base, FORMATS["default"], [], tmp_path / "base")
    results = []
    for at_once in (64, 256):
        settings = replace(SETTINGS, max_steps=2, log_every=1, tokens_per_forward=at_once)
        job = job_in(tmp_path / str(at_once), dataset, tmp_path / "base", settings)
        facts = train(job)
        results.append([(line["loss"], line["grad_norm"]) for line in metrics(job)])
    assert facts["train"]["fill"] < 0.95
    assert facts["train"]["row_length"] == facts["train"]["sequence_length"] == 64
    for one, other in zip(*results, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
def test_killed_and_run_again_is_as_if_never_killed(gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    # A model with dropout, so that random states matter too. The killed process is one without the
    # packages that a bare machine lacks; the rerun goes through `accelerate launch`.
    settings = replace(SETTINGS, max_steps=150)
    whole = job_in(tmp_path / "whole", dataset, gpt2, settings)
    train(whole)

    job = job_in(tmp_path / "killed", dataset, gpt2, settings)
    job.work.mkdir(parents=True)
    file = job.work / "job.json"
    file.write_text(job.to_json())
    process = subprocess.Popen([sys.executable, "-c", WITHOUT, str(file)], env=environment())
    while not list(job.work.glob("checkpoints/step-*[0-9]")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not job.output.exists()

    command = ["-m", "accelerate.commands.launch", "--config_file", str(PRESETS / "cpu.yaml")]
    rerun = subprocess.run(
        [sys.executable, *command, "-m", "adc_pipeline.training", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Resuming after step" in rerun.stdout
    for name, tensor in weights(whole.output).items():
        assert torch.equal(tensor, weights(job.output)[name]), name
    ours, theirs = metrics(whole), metrics(job)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]


def test_adapters_go_on_from_a_checkpoint_that_holds_little_else(
    small_model: Path, dataset: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, max_steps=12, checkpoint_every=6, lora_rank=2, lora_dropout=0.1)
    job = job_in(tmp_path, dataset, small_model, settings)
    train(job)
    whole = weights(job.output)
    first, last = sorted((job.work / "checkpoints").iterdir())
    held = torch.load(first / "pytorch_model.bin")
    assert held
    assert all("lora_" in name or "trainable_tokens" in name for name in held)
    assert sum(one.numel() for one in held.values()) < 0.2 * sum(one.numel() for one in whole.values())
    # As if it had been killed after the first checkpoint.
    for lost in (last, job.output):
        lost.rename(tmp_path / lost.name)
    train(job)
    for name, tensor in whole.items():
        assert torch.equal(tensor, weights(job.output)[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("way", [{"gradient_checkpointing": True}, {"compile": True}])
def test_ways_to_compute_the_same(
    way: dict[str, Any], small_model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = replace(SETTINGS, max_steps=4, tokens_per_forward=64, log_every=1, checkpoint_every=2)
    jobs = [job_in(tmp_path / "plain", dataset, small_model, plain)]
    jobs.append(job_in(tmp_path / "way", dataset, small_model, replace(plain, **way)))
    for job in jobs:
        train(job)
    for ours, theirs in zip(*map(metrics, jobs), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    # Memory that turned out to be too small is no reason to begin again.
    capsys.readouterr()
    train(replace(jobs[0], settings=replace(plain, **way)))
    assert "Resuming after step 4 of 4" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2", "mamba"])
def test_following_the_advice_on_too_little_memory_keeps_the_work(
    family: str, plain_gpt2: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that the kernel, positions or passes keep apart are divided further, and every step has the same ones."""
    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    more = {"intermediate_size": 64, "head_dim": 16, "sliding_window": 16, "pad_token_id": None}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **more)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), FORMATS["default"], [], tmp_path / "base")
    ample = replace(SETTINGS, max_steps=8, log_every=1, checkpoint_every=4, validate_every=0)
    job = job_in(tmp_path, dataset, tmp_path / "base", ample)
    facts = train(job)
    expected = metrics(job)
    for advised in (
        replace(ample, tokens_per_forward=64),
        replace(ample, tokens_per_forward=100, gradient_checkpointing=True),
    ):
        # As if it had run out of memory after the first checkpoint.
        for lost in (sorted((job.work / "checkpoints").iterdir())[-1], job.output):
            shutil.rmtree(lost)
        capsys.readouterr()
        again = train(replace(job, settings=advised))
        assert "Resuming after step 4 of 8" in capsys.readouterr().out
        assert again["train"]["row_length"] == facts["train"]["row_length"]
        for ours, theirs in zip(metrics(job), expected, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        for part in ("background", "rejected", "accepted"):
            assert again["final"][f"validation_loss_{part}"] == pytest.approx(
                facts["final"][f"validation_loss_{part}"], rel=1e-3
            )


@pytest.mark.slow
def test_another_job_starts_anew(
    small_model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_steps=10))
    train(first)
    (first.work / "job.json").write_text("kept")
    other = replace(first, settings=replace(first.settings, learning_rate=1e-4, max_steps=12))
    train(other)
    said = capsys.readouterr().out
    assert "belonged to another job" in said
    assert "Resuming" not in said
    assert (first.work / "job.json").read_text() == "kept"
    assert [line["step"] for line in metrics(other)] == [7, 10, 12]

    fresh = replace(other, work=tmp_path / "fresh", output=tmp_path / "fresh-output")
    train(fresh)
    for name, tensor in weights(fresh.output).items():
        assert torch.equal(tensor, weights(other.output)[name])


def test_how_often_it_logs_does_not_make_it_another_job(
    small_model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_steps=10))
    train(job)
    before = weights(job.output)
    # What a kill in the middle of writing leaves is not taken for a checkpoint.
    (job.work / "checkpoints" / "step-000000099.partial").mkdir()
    train(replace(job, settings=replace(job.settings, log_every=1, checkpoint_every=3, keep_checkpoints=1)))
    assert "Resuming after step 10 of 10" in capsys.readouterr().out
    for name, tensor in before.items():
        assert torch.equal(tensor, weights(job.output)[name])


def test_only_so_many_checkpoints_are_kept(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    job = job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_steps=10, checkpoint_every=2))
    train(job)
    assert sorted(path.name for path in (job.work / "checkpoints").iterdir()) == ["step-000000008", "step-000000010"]


def test_an_empty_training_split_is_refused(small_model: Path, tmp_path: Path) -> None:
    empty = write_dataset(tmp_path / "empty", validation=[random_walk(0)])
    with pytest.raises(PipelineError, match=r"The training split of .* is empty"):
        train(job_in(tmp_path, empty, small_model))


def test_a_training_split_without_validation_is_enough(small_model: Path, tmp_path: Path) -> None:
    # One walk of a few tokens, and every later step goes over it again.
    tiny = write_dataset(tmp_path / "tiny", train=[walk("b", [("s", "t", "accepted")])])
    facts = train(job_in(tmp_path, tiny, small_model, replace(SETTINGS, max_steps=3)))
    assert facts["validation"]["walks"] == 0
    assert not [name for name in facts["final"] if name.startswith("validation")]


def test_rows_longer_than_the_context_are_refused(gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="`sequence_length` 256 is longer than the 128 tokens"):
        train(job_in(tmp_path, dataset, gpt2, replace(SETTINGS, sequence_length=256)))


def test_a_context_that_most_backgrounds_fill_is_refused(gpt2: Path, tmp_path: Path) -> None:
    # A context of 128 tokens; of each word of a background one token is left at least.
    long = walk("op\n" + "reply tree " * 70, [("s", "t", "accepted")])
    dataset = write_dataset(tmp_path / "long", train=[long, long, random_walk(0)])
    with pytest.raises(PipelineError, match=r"context of 128 tokens is too short: the backgrounds of 67% of the walks"):
        train(job_in(tmp_path, dataset, gpt2))
    few = write_dataset(tmp_path / "few", train=[long, random_walk(0), random_walk(1)])
    train(job_in(tmp_path / "few", few, gpt2, replace(SETTINGS, max_steps=1)))


def test_a_loss_that_is_no_number_stops_the_run(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    AutoTokenizer.from_pretrained(small_model).save_pretrained(broken)
    AutoModelForCausalLM.from_pretrained(small_model).save_pretrained(broken)
    tensors = weights(broken)
    tensors["model.norm.weight"][0] = math.inf
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    job = job_in(tmp_path, dataset, broken)
    with pytest.raises(PipelineError, match=r"The loss became nan in step 1 \(conversations c\d+, "):
        train(job)
    assert not job.output.exists()
    assert not (job.work / "checkpoints").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objective": "magic"}, "`objective` is 'magic'; use one of mle"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"tokens_per_step": 100}, "`tokens_per_step` 100 is less than one row"),
        ({"keep_checkpoints": 0}, "`keep_checkpoints`"),
        ({"markers": "none"}, "`markers` is 'none'; use one of kept, stripped, neutral"),
        ({"verdicts": "random"}, "`verdicts` is 'random'; use one of true, shuffled"),
        ({"objective": "conditional", "markers": "stripped"}, "`objective` conditional has markers of its own"),
        ({"lora_dropout": 2.0}, "`lora_dropout` is 2.0; use 0 or more and less than 1"),
        ({"alpha": -1.0}, "`alpha`"),
        ({"beta": 0.0}, "`beta`"),
        ({"max_weight": math.nan}, "`max_weight`"),
        ({"dropped_markers": 1.5}, "`dropped_markers` is 1.5; use 0 to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        TrainingSettings(**wrong)  # type: ignore[arg-type]


def test_a_job_survives_json(tmp_path: Path) -> None:
    job = job_in(tmp_path, tmp_path / "d", tmp_path / "m", replace(SETTINGS, max_steps=None, epochs=0.5))
    assert TrainingJob.from_json(job.to_json()) == job
    with pytest.raises(PipelineError, match="nonsense"):
        TrainingJob.from_json(job.to_json().replace("sequence_length", "nonsense"))


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    job = job_in(tmp_path, tmp_path / "d", tmp_path / "m")
    (tmp_path / "job.json").write_text(job.to_json().replace('"mle"', '"magic"'))
    command = [sys.executable, "-m", "adc_pipeline.training", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("`objective` is 'magic'; use one of mle")
    assert "Traceback" not in done.stderr
