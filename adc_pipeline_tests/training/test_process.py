"""The process of a training, as a run starts, awaits and ends it; a shell stands for the training. 1 s."""

from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.links import locked
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.training.launching import process as launched
from adc_pipeline.training.launching.process import TrainingProcess
from adc_pipeline.training.settings import ONE_CORE, TrainingJob, TrainingSettings, uses_one_core

UNTIL_INTERRUPTED = "trap 'echo saved; exit 2' INT; echo begun; while :; do sleep 0.05; done"


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> TrainingProcess:
    for name in ("dataset", "base"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(launched, "launch_command", lambda *_: ["sh", "-c", script, "sh"])
    job = TrainingJob(TrainingSettings(), folder / "dataset", folder / "base", folder / "output", folder / "work")
    return TrainingProcess(job, "a_model")


def test_all_lines_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    started(tmp_path, monkeypatch, "echo one; sleep 0.1; printf 'two\nthree'").wait(lines.append)
    assert lines == ["one", "two", "three"]
    with locked(tmp_path / "work") as free:
        assert free


def test_the_message_of_the_process_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = started(tmp_path, monkeypatch, f"echo 'Too hot.' > {tmp_path / 'work' / 'failure.txt'}; exit 2")
    with pytest.raises(PipelineError, match=r"^Too hot\.$"):
        process.wait(print)


def test_a_process_that_the_system_kills_says_what_saves_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in ("kill -KILL $$", "exit 137"):
        with pytest.raises(PipelineError, match=r"was killed, as Linux .*set `gradient_checkpointing` to true"):
            started(tmp_path, monkeypatch, script).wait(print)


@pytest.mark.parametrize("script", ["kill -SEGV $$", "kill -BUS $$", "exit 139"])
def test_a_process_that_ends_in_native_code_says_where_to_look(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineError, match=r"ended by the signal \d+ \([SB]\w+ \w+.* cause in .*/log.txt"):
        started(tmp_path, monkeypatch, script).wait(print)


def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = started(tmp_path, monkeypatch, UNTIL_INTERRUPTED)
    with pytest.raises(PipelineError, match="Another run is training a_model"):
        started(tmp_path, monkeypatch, UNTIL_INTERRUPTED)
    process.close()


def test_the_end_of_a_run_ends_what_it_began_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace()
    for name in ("one", "two"):
        workspace.begun[name] = started(tmp_path / name, monkeypatch, UNTIL_INTERRUPTED)
        # Until the shell has set its trap.
        assert next(workspace.begun[name].lines()) == "begun"  # type: ignore[union-attr]
    workspace.begun["up_to_date"] = None
    workspace.end_begun()
    for name in ("one", "two"):
        assert (tmp_path / name / "work" / "log.txt").read_text() == "begun\nsaved\n"
        with locked(tmp_path / name / "work") as free:
            assert free


def test_only_small_models_use_one_core() -> None:
    small, large = 0.9 * ONE_CORE / 1024, 1.1 * ONE_CORE / 1024
    assert uses_one_core(TrainingSettings(tokens_per_step=1024), small)
    assert not uses_one_core(TrainingSettings(tokens_per_step=1024), large)
    # Several processes share the cores by themselves.
    assert not uses_one_core(TrainingSettings(accelerate_config="cpu.yaml"), small)
