"""What stops a training says so in one sentence and leaves a checkpoint to go on from."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.memory import is_out_of_memory
from adc_pipeline.training.export import writing as export
from adc_pipeline.training.launching.launch import launch_command
from adc_pipeline.training.loop.checkpoint import checkpoints, fingerprint
from adc_pipeline.training.loop.checksums import check_files, others
from adc_pipeline.training.loop.interval import Interval
from adc_pipeline.training.loop.run import Run
from adc_pipeline.training.loop.signals import StopSignal
from adc_pipeline.training.loop.stopping import (
    FEWEST,
    SKIPPED,
    LossWatch,
    OverflowWatch,
    memory_advice,
    translated_errors,
)
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline_tests.training.processes import PRESETS
from adc_pipeline_tests.training.test_training import job_in, metrics, weights
from adc_pipeline_tests.training.walks import random_walk, write_dataset

SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=256, max_steps=12, log_every=5, checkpoint_every=5, validate_every=0
)


@pytest.fixture(autouse=True)
def threads_stay(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def unstopped(gpt2: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A training that nothing stopped."""
    job = job_in(tmp_path_factory.mktemp("unstopped"), dataset, gpt2, SETTINGS)
    train(job)
    return job


def at_step(number: int, act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `act` in the middle of a step."""
    add, steps = Interval.add, iter(range(1, 1000))

    def added(self: Interval, loss: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        add(self, act(loss) if next(steps) == number else loss, gradient_norm)

    monkeypatch.setattr(Interval, "add", added)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_rerun_goes_on(
    unstopped: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    job = replace(unstopped, output=tmp_path / "output", work=tmp_path / "work")
    # A suite that a script started in the background ignores SIGINT.
    inherited = signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)

    def told(loss: torch.Tensor) -> torch.Tensor:
        # Ctrl+C reaches a training twice: from the terminal, and from Dagster.
        for _ in range(2):
            os.kill(os.getpid(), number)
        return loss

    with monkeypatch.context() as patch:
        at_step(6, told, patch)
        # The signal came after step 6 had looked, so step 7 is the last.
        with pytest.raises(PipelineError, match=f"Stopped by {number.name} after step 7 of 12, which is saved"):
            train(job)
    assert signal.getsignal(number) == before
    signal.signal(number, inherited)
    assert checkpoints(job.work)[-1].name == "step-000000007"
    assert not job.output.exists()
    train(job)
    for name, tensor in weights(unstopped.output).items():
        assert torch.equal(tensor, weights(job.output)[name]), name
    assert [line["step"] for line in metrics(job)] == [5, 7, 10, 12]


def test_weights_that_were_altered_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "step" / "optimizer.bin"
    path.parent.mkdir()
    torch.save({"weight": torch.full((64,), 0.3)}, path)
    (path.parent / "states.json").write_text("{}")
    recorded = others(path.parent)
    assert list(recorded) == ["states.json"]
    check_files(path.parent, recorded)
    flip_bit(path, torch.full((1,), 0.3).numpy().tobytes(), 40)
    # torch itself takes the other number.
    assert torch.load(path)["weight"].unique().numel() == 2
    with pytest.raises(ValueError, match=r"the checksum of .*data/0 in optimizer\.bin differs"):
        check_files(path.parent, recorded)
    (path.parent / "states.json").write_text("[]")
    with pytest.raises(ValueError, match=r"states\.json was altered"):
        check_files(path.parent, recorded)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("value", [0.3, 0.7])
def test_shards_that_were_altered_are_noticed(value: float, tmp_path: Path) -> None:
    """Files as FSDP writes them, with several tensors in one: any of them may be the damaged one."""
    state = {"first": torch.full((64,), 0.3), "second": torch.full((64,), 0.7), "step": 3}
    folder = tmp_path / "step" / "pytorch_model_fsdp_0"
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    recorded = others(folder.parent)
    assert list(recorded) == ["pytorch_model_fsdp_0/.metadata"]
    check_files(folder.parent, recorded)
    flip_bit(folder / "__0_0.distcp", torch.full((1,), value).numpy().tobytes(), 40)
    with pytest.raises(ValueError, match=r"the checksum of .*data/0 in __0_0\.distcp differs"):
        check_files(folder.parent, recorded)


def flip_bit(path: Path, near: bytes, beyond: int) -> None:
    """Flip a bit that many bytes behind the first of some others."""
    content = path.read_bytes()
    place = content.index(near) + beyond
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.slow
def test_what_was_trained_elsewhere_is_taken_over(gpt2: Path, dataset: Path, tmp_path: Path) -> None:
    """As docs/how-to/fine-tune.md says it: data and base model are copied there, the work folder back."""
    here, there = tmp_path / "here", tmp_path / "there"
    for name, folder in (("dataset", dataset), ("base", gpt2)):
        shutil.copytree(folder, there / name)
    copied = TrainingJob.from_json(job_in(there, there / "dataset", there / "base", SETTINGS).to_json())
    train(copied)
    shutil.copytree(copied.work, here / "work")
    job = job_in(here, dataset, gpt2, SETTINGS)
    train(job)
    assert metrics(job) == metrics(copied)
    assert (job.output / "model.safetensors").read_bytes() == (copied.output / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_loss_that_jumps_stops_the_run(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(FEWEST + 1, lambda loss: loss * 11, monkeypatch)
    job = job_in(tmp_path, dataset, small_model, SETTINGS)
    said = r"The loss jumped to \d+\.\d+ from a median of \d\.\d+, beyond `max_loss_jump` 10, in step 11 \(conv.* c\d+"
    with pytest.raises(PipelineError, match=said):
        train(job)
    assert checkpoints(job.work)[-1].name == "step-000000010"
    assert len(json.loads((checkpoints(job.work)[-1] / "position.json").read_text())["recent_losses"]) == 10


@pytest.mark.slow
def test_no_jump_is_too_large_where_none_is_asked_for(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(FEWEST + 1, lambda loss: loss * 1000, monkeypatch)
    train(job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_loss_jump=0.0)))


def test_what_the_watch_minds() -> None:
    watch = LossWatch(3.0)
    assert [watch.fault(loss) for loss in [9.0, 1.0, 90.0, *[2.0] * 7]] == [None] * 10
    assert watch.fault(6.0) is None
    assert watch.fault(6.1) == "jumped to 6.1 from a median of 2, beyond `max_loss_jump` 3,"
    assert watch.fault(math.inf) == "became inf"
    assert LossWatch(3.0, [0.01] * 10).fault(2.9) is None
    assert LossWatch(0.0, [2.0] * 10).fault(1e9) is None


def test_float16_may_skip_some_steps_but_not_all() -> None:
    watch = OverflowWatch()
    for step in range(1, 400):
        # The scaler tries a larger factor every so often.
        watch.check(math.inf if step < SKIPPED or step % 50 == 0 else 1.0, step, 400)
    watch.check(math.inf, 400, 400)
    for norm in (math.inf, math.nan):
        watch = OverflowWatch()
        for step in range(1, SKIPPED):
            watch.check(norm, step, 400)
        with pytest.raises(PipelineError, match=rf"in each of the last {SKIPPED} steps, up to step {SKIPPED}, and"):
            watch.check(norm, SKIPPED, 400)
        watch = OverflowWatch()
        watch.check(norm, 1, 2)
        with pytest.raises(PipelineError, match=r"last 2 steps, up to step 2, .* set `mixed_precision` to bf16 or no"):
            watch.check(norm, 2, 2)


def test_a_gradient_that_is_no_number_stops_the_run(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step's own loss is fine, and its weights may be until the next."""
    add, steps = Interval.add, iter(range(1, 1000))

    def added(self: Interval, loss: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        add(self, loss, gradient_norm * math.inf if next(steps) == 7 else gradient_norm)

    monkeypatch.setattr(Interval, "add", added)
    job = job_in(tmp_path, dataset, small_model, SETTINGS)
    with pytest.raises(PipelineError, match=r"The gradient norm became inf in step 7 \(conversations c\d+, "):
        train(job)
    assert [path.name for path in checkpoints(job.work)] == ["step-000000005"]


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("factor", [1e18, 1e39])
def test_weights_that_the_last_step_broke_are_not_written(
    validated: bool, factor: float, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step is from before its update; the weights may be finite and still give none."""
    walks = [random_walk(number) for number in range(30)]
    dataset = write_dataset(tmp_path / "d", train=walks[:20], validation=walks[20:] if validated else [])
    update = torch.optim.AdamW.step

    def broken(optimizer: torch.optim.AdamW, *given: Any) -> None:
        update(optimizer, *given)
        with torch.no_grad():
            for weights in optimizer.param_groups[0]["params"]:
                weights.copy_(weights.sign() * factor)

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    settings = replace(SETTINGS, max_steps=1, checkpoint_every=1)
    job = job_in(tmp_path, dataset, small_model, settings)
    with pytest.raises(PipelineError, match=r"The (weights|validation loss) .* after step 1, so that no checkpoint"):
        train(job)
    assert not job.output.exists()
    assert not checkpoints(job.work)
    assert "NaN" not in (job.work / "metrics.jsonl").read_text()


def test_weights_that_adapters_break_on_export_are_not_written(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: torch.nn.Module, *_: Any) -> torch.nn.Module:
        with torch.no_grad():
            next(model.parameters())[0, 0] = math.inf
        return model

    monkeypatch.setattr(export, "merged", broken)
    job = job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_steps=1, lora_rank=2))
    with pytest.raises(PipelineError, match=r"The trained weights are not finite \(model.embed_tokens.weight\)"):
        train(job)
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({}, "lower `tokens_per_forward` below 256, down to `sequence_length` 64, or set `gradient_checkpointing` to"),
        ({"tokens_per_forward": 64}, "out of memory; set `gradient_checkpointing` to true, and run it again to resume"),
        ({"gradient_checkpointing": True}, "`sequence_length` 64, and run it again to resume from the last checkpoint"),
        ({"gradient_checkpointing": True, "tokens_per_forward": 64}, "start over with a smaller base model"),
        ({"gradient_checkpointing": True, "tokens_per_step": 64}, "start over with a smaller base model"),
    ],
)
def test_the_advice_on_too_little_memory_is_what_helps(settings: dict[str, Any], advice: str, tmp_path: Path) -> None:
    job = job_in(tmp_path, tmp_path, tmp_path, replace(SETTINGS, **settings))
    with pytest.raises(PipelineError) as raised, translated_errors(job):
        raise MemoryError
    assert advice in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_names_the_settings(
    error: Exception, small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Run, "update", fails)
    with pytest.raises(PipelineError, match=r"The training ran out of memory; lower `tokens_per_forward` below 256"):
        train(job_in(tmp_path, dataset, small_model, SETTINGS))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GiB)"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'"), True),
        (RuntimeError("unable to mmap 4096 bytes from file </x>: Cannot allocate memory (12)"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), False),
    ],
)
def test_too_little_memory_is_recognised_whoever_reports_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_what_the_advice_changes_keeps_the_checkpoints(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    """Every setting that a message of a training recommends together with resuming, in any combination."""
    job = job_in(tmp_path, dataset, small_model, replace(SETTINGS, tokens_per_step=256, tokens_per_forward=256))
    mark, seen = fingerprint(job), 0
    while "start over" not in (advice := memory_advice(job.settings)):
        assert advice.endswith("run it again to resume from the last checkpoint")
        halved = max(job.settings.sequence_length, job.settings.tokens_per_forward // 2)
        follow = {"tokens_per_forward": halved} if "tokens_per_forward" in advice else {"gradient_checkpointing": True}
        job, seen = replace(job, settings=replace(job.settings, **follow)), seen + 1
        assert fingerprint(job) == mark
    assert seen == 3
    # What the other messages name: the disk, a jump of the loss, a compiler.
    for change in ({"keep_checkpoints": 1}, {"max_loss_jump": 0.0}, {"compile": True}):
        assert fingerprint(replace(job, settings=replace(job.settings, **change))) == mark


def test_pytorch_says_of_too_little_memory_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        torch.empty(1 << 60)


def test_another_error_is_left_as_it_is(
    small_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Run, "update", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(job_in(tmp_path, dataset, small_model, SETTINGS))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EROFS, "Read-only file system"),
            r"cannot go on \(Read-only file system\): mount the disk for wri",
        ),
        (ValueError("I/O error: File too large (os error 27)"), r"raise the limit on the size of files .*run it again"),
        (RuntimeError("basic_ios::clear: iostream error"), "The disk is full"),
    ],
)
def test_what_the_system_refuses_is_named(error: Exception, sentence: str, tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match=sentence),
        translated_errors(job_in(tmp_path, tmp_path, tmp_path, SETTINGS)),
    ):
        raise error


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:815] . PytorchStreamWriter failed writing file data/0"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 173632 vs 173524"),
    RuntimeError("basic_ios::clear: iostream error"),
]


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(
    unstopped: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, keep_checkpoints=1)
    job = replace(unstopped, settings=settings, output=tmp_path / "output", work=tmp_path / "work")
    save, errors = Accelerator.save_state, iter(FULL)

    def saves(self: Accelerator, folder: str, **options: Any) -> str:
        if "000000010" in folder:
            Path(folder).mkdir()
            (Path(folder) / "half").write_text("written")
            raise next(errors)
        return save(self, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", saves)
        # Each goes on from the checkpoint of step 5, and fails again at that of step 10.
        for _ in FULL:
            with pytest.raises(PipelineError, match=r"The disk is full .*make room and run it again"):
                train(job)
            assert [path.name for path in (job.work / "checkpoints").iterdir()] == ["step-000000005"]
    train(job)
    for name, tensor in weights(unstopped.output).items():
        assert torch.equal(tensor, weights(job.output)[name]), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_training_whose_launcher_is_ended_saves_and_stops(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    job = job_in(tmp_path, dataset, small_model, replace(SETTINGS, max_steps=100_000, checkpoint_every=0, log_every=1))
    job.work.mkdir(parents=True)
    path = tmp_path / "job.json"
    path.write_text(job.to_json())
    with subprocess.Popen(launch_command(path, str(PRESETS / "cpu.yaml"))) as launcher:
        wait_until(lambda: bool((job.work / "metrics.jsonl").exists() and metrics(job)))
        # Not by SIGTERM, which a launcher does not mind where whoever started it does not.
        launcher.kill()
    wait_until((job.work / "failure.txt").exists)
    assert "Stopped by SIGTERM after step" in (job.work / "failure.txt").read_text()
    assert checkpoints(job.work)


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.received
    finally:
        signal.signal(signal.SIGHUP, before)


# Sends a signal when the import of `transformers` begins, which loads torch.
DURING_IMPORT = """
import os, runpy, signal, sys

class Signals:
    def find_spec(self, name, *_):
        if name == "transformers":
            os.kill(os.getpid(), signal.NUMBER)

# A suite that a script started in the background ignores SIGINT.
signal.signal(signal.NUMBER, signal.SIG_DFL)
sys.meta_path.insert(0, Signals())
runpy.run_module("adc_pipeline.training", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_while_torch_is_imported_ends_the_process_at_once(name: str, tmp_path: Path) -> None:
    """An import may swallow the exception that Python raises by default, and takes seconds."""
    job = TrainingJob(SETTINGS, tmp_path / "dataset", tmp_path / "base", tmp_path / "output", tmp_path / "work")
    (tmp_path / "job.json").write_text(job.to_json())
    code = DURING_IMPORT.replace("NUMBER", name)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job.json")], capture_output=True, text=True, timeout=60
    )
    said = f"Stopped by {name} before the first step or after the last: there was nothing to save.\n"
    assert (done.returncode, done.stderr) == (130, said)
    assert (job.work / "failure.txt").read_text() == said


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(600):
        if done():
            return
        time.sleep(0.1)
    pytest.fail("Nothing happened within a minute.")
