"""What a run ends with."""

import json
import os
import sys
from pathlib import Path

import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.intervals.bootstrap import Estimate
from adc_pipeline.evaluation.presentation.summary import command, interval, summary
from adc_pipeline_tests.promotion.evaluations import answers, write_evaluation


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A home with two evaluations, of which the first has the newer report, two datasets and two models."""
    home = tmp_path / "home"
    for seconds, (kind, share) in enumerate((("top-2", 0.8), ("random-walk", 0.3))):
        folder = write_evaluation(home / "evaluations" / kind, answers(share))
        read = Evaluation.read(folder)
        measured = {"preference_accuracy": read.minus_base["preference_accuracy"].value}
        stored = json.loads((folder / "evaluation.json").read_text())
        for name, value in measured.items():
            stored["model"][name] = {"value": value, "low": 0.25, "high": 0.75, "cases": 40, "conversations": 40}
        (folder / "evaluation.json").write_text(json.dumps(stored))
        (folder / "report.html").touch()
        os.utime(folder / "report.html", (-seconds, -seconds))
        (home / "datasets" / kind).mkdir(parents=True)
        (home / "models" / kind).mkdir(parents=True)
        registered = {"registered_model": f"adc-{kind}", "registered_version": 1}
        (home / "models" / kind / "registered.json").write_text(json.dumps(registered))
    return Store(home)


def test_an_evaluated_run_ends_with_figures_report_and_commands(store: Store) -> None:
    lines = summary(store, ["top_2", "top_2_model", "top_2_evaluation", "random_walk_evaluation", "comparison"])
    columns = next(line for line in lines if "nothing learned" in line)
    assert columns.split() == ["random-walk", "top-2", "nothing", "learned"]
    accuracy = next(line for line in lines if line.startswith("preference accuracy "))
    assert accuracy.split()[2:] == ["-0.200", "[0.250,", "0.750]", "0.300", "[0.250,", "0.750]", "0.5"]
    assert lines[-3:] == [
        f"Report: {store.home / 'evaluations/top-2/report.html'}",
        f"Open Dagster's and MLflow's pages: {command('dev')}",
        f"Talk with a model: {command('generate')} --model models:/adc-top-2@latest",
    ]


def test_a_run_ends_with_its_own_figures_and_report(store: Store) -> None:
    study = store.home / "study" / "result" / "report.html"
    study.parent.mkdir(parents=True)
    study.touch()
    lines = summary(store, ["random_walk_evaluation"])
    assert next(line for line in lines if "nothing learned" in line).split() == ["random-walk", "nothing", "learned"]
    assert f"Report: {store.home / 'evaluations/random-walk/report.html'}" in lines
    assert summary(store, ["study_table"])[0] == f"Report: {study}"
    # The report of the comparison, whichever of the run's is newer.
    comparison = store.home / "evaluations" / "comparison" / "report.html"
    comparison.parent.mkdir()
    comparison.touch()
    os.utime(comparison, (-9, -9))
    assert f"Report: {comparison}" in summary(store, ["top_2_evaluation", "comparison"])


def test_a_run_of_datasets_ends_with_their_places(store: Store) -> None:
    assert summary(store, ["raw_corpus", "top_2", "preferences"]) == [
        f"Datasets: {store.home / 'datasets/preferences'}, {store.home / 'datasets/top-2'}",
        f"Open Dagster's and MLflow's pages: {command('dev')}",
    ]


def test_the_model_to_talk_with_is_that_of_ascending_if_there_is_one(store: Store) -> None:
    folder = store.home / "models" / "ascending"
    folder.mkdir()
    (folder / "registered.json").write_text(json.dumps({"registered_model": "our-ascending"}))
    assert summary(store, ["comparison"])[-1].endswith(" --model models:/our-ascending@latest")


@pytest.mark.parametrize("assets", [[], ["raw_corpus"], ["study_cell/both.mle.seed-0"]])
def test_a_run_that_made_nothing_to_look_at_ends_without_a_word(store: Store, assets: list[str]) -> None:
    assert summary(store, assets) == []


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "not measured"),
        (Estimate(None, None, None, 0, 0), "no cases"),
        (Estimate(0.5, None, None, 3, 1), "0.500 (one conversation)"),
        (Estimate(-0.0301, -0.1, 0.2, 9, 4), "-0.030 [-0.100, 0.200]"),
    ],
)
def test_a_figure_has_its_interval_or_says_why_not(estimate: Estimate | None, text: str) -> None:
    assert interval(estimate) == text


def test_the_commands_are_such_as_the_shell_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    assert command("dev") == "bin/python -m adc_pipeline dev"
    script = python.with_name("adc")
    script.touch(mode=0o755)
    assert command("dev") == "bin/adc dev"
    monkeypatch.setenv("PATH", str(python.parent))
    assert command("dev") == "adc dev"
