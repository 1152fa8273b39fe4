"""The command around the cells: what it refuses before any is made, and its progress. No job is run."""

import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.study import launcher as launching
from adc_pipeline.study.__main__ import chosen_variants, main
from adc_pipeline.study.launcher import Launcher, run_cells
from adc_pipeline.study.plan_file import read_plan
from adc_pipeline_tests.study.test_cells import put_walks, store

__all__ = ["store"]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that the command would have run."""
    labels: list[str] = []

    def run(self: Launcher, job: str, label: str, tags: object = None) -> bool:
        labels.append(label)
        return True

    monkeypatch.setattr(Launcher, "run", run)
    return labels


def test_inputs_that_no_cell_can_be_made_of_end_it_with_the_sentence(
    store: Store, launched: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_walks(store, "random_walk", store.current("random_walk").inputs, shares=(90, 5, 5))
    monkeypatch.setenv("ADC_HOME", str(store.home))
    monkeypatch.setattr(sys, "argv", ["study"])
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith("top_2 has the setting `shares`")
    assert said.count("\n") == 1
    assert launched == ["inputs"]


def test_datasets_of_other_splits_are_refused_before_any_is_made(
    launched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("ops: {top_2: {config: {shares: [70, 5, 25]}}, ascending: {config: {shares: [70, 5, 25]}}}")
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    assert main(["-c", str(config)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("top_2 has the setting `shares` [70, 5, 25] and random_walk [90, 5, 5], so test")
    assert launched == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--variants", "top-2.mel"], "which is no variant (did you mean top-2.mle?); use one of top-2.mle, top-2.acc"),
        (
            ["--plan", "rejections", "--variants", "A", "ascending.mle"],
            "names ascending.mle, which is no arm of the plan rejections; use one of A, B, C",
        ),
        (["--plan", "rejections", "--variants", "a"], "(did you mean A?)"),
        (
            ["--plan", "rejections", "--seeds", "7"],
            "`--seeds` names 7, which is no seed of the plan rejections; use one",
        ),
        (["--cells", "folder"], "`--cells` is an option of a plan: give the plan with `--plan`"),
        (["--tune", "A"], "`--tune` is an option of a plan"),
    ],
)
def test_an_option_that_names_nothing_of_the_study_is_refused(
    options: list[str], sentence: str, launched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    assert sentence in capsys.readouterr().err
    assert launched == []


def test_variants_of_a_plan_are_its_arms() -> None:
    plan = read_plan("rejections")
    assert chosen_variants(plan, ["B", "A"]) == ["ascending.mle.neutral", "ascending.mle"]
    assert chosen_variants(plan, None) == [variant.name for variant in plan.arms.values()]
    assert chosen_variants(None, ["both.awr"]) == ["both.awr"]


def test_the_progress_of_a_cell_is_seen_when_it_ends(
    launched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also through a pipe, which Python writes to in large pieces otherwise."""
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Unbuffered(pipe))))
    assert run_cells(Launcher({}, tmp_path), [("top-2.mle", "0")], parallel=1, again=False) == []
    assert pipe.getvalue().startswith(b"1 of 1: top-2.mle, seed 0; ")


class Unbuffered(io.RawIOBase):
    """What is written has arrived."""

    def __init__(self, to: io.BytesIO) -> None:
        self.to = to

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self.to.write(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_cell_that_runs_and_starts_no_other(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a container's stop sends it: to this process, and not to those that it started."""
    ready = tmp_path / "ready"
    program = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    monkeypatch.setattr(launching, "EXECUTE", (sys.executable, "-c", program))
    before = signal.signal(number, signal.default_int_handler)
    launcher = Launcher({}, tmp_path)

    def send() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    try:
        with launcher.stoppable():
            sender.start()
            failed = run_cells(launcher, [("top-2.mle", "0"), ("top-2.mle", "1")], parallel=1, again=False)
        sender.join()
        assert launcher.stopped.is_set()
        assert not failed
        assert not launcher.running
        assert [path.name for path in tmp_path.glob("*.log")] == ["top-2.mle.seed-0.log"]
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
