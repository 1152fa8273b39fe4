"""`adc run`, from an empty folder: what it shows, what it keeps, and how it ends. 12 s."""

import os
import re
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import dagster as dg
import pytest
import yaml

from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.cli.progress import Progress
from adc_pipeline.cli.run import distinct, read_config, run_job
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.terminal import printable
from adc_pipeline.defs.origin import LOCATION
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.kinds import KINDS

SMALL = {"raw_corpus": {"config": {"sample_conversations": 40}}}


@pytest.fixture
def home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    # Set first, so that what the code sets is undone afterwards.
    monkeypatch.setenv("DAGSTER_HOME", "")
    for name in ("MLFLOW_TRACKING_URI", "ADC_CORPUS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    shutil.copy(empty_database, tmp_path / "home" / "mlflow.db")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "home"


def config(folder: Path, ops: Any) -> str:
    (folder / "run.yaml").write_text(yaml.safe_dump({"ops": ops}))
    return str(folder / "run.yaml")


@pytest.mark.slow
def test_a_run_shows_a_line_a_step_and_keeps_everything_below_adc_home(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Configurations of different sizes have different numbers of files, which all checks read.
    monkeypatch.setattr("adc_pipeline.walks.files.LEAST_MEASURED", 0)
    monkeypatch.setattr("adc_pipeline.walks.files.TEXT_A_FILE", 4_000)
    file = config(tmp_path, {**SMALL, "comparison": {"config": {"draws": 100}}})
    assert run_job(["datasets"], file) == 0
    out, error = capfd.readouterr()
    assert error == ""
    # Without the notes of a step, as of a dataset that is too small.
    lines = [line for line in out.splitlines() if not re.match("[a-z0-9_]+: ", line)]
    assert lines.pop(0) == "This run does not make comparison: these settings are not used."
    with dagster_instance(Store(home)) as instance:
        (run,) = instance.get_runs()
        steps = [entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)]
    assert [line.split()[0] for line in lines[: len(steps)]] == steps
    # The name, the seconds, and the outcome; a check that warns of so small a dataset is "not passed" and says why.
    assert {line.split()[3] for line in lines[: len(steps)]} == {"made", "passed", "not"}
    assert {line.split()[0] for line in lines if line.endswith(" s  made")} == set(STAGES).intersection(steps)
    # The lines that the run ends with.
    assert lines[len(steps)].startswith(f"{4 + len(KINDS)} rebuilt, 0 reused.")
    assert lines[len(steps) + 1].startswith("Datasets: ")
    files = [len(split_files(home / "datasets" / "preferences", "train", each)) for each in ("pairs", "messages")]
    assert files[0] > files[1] > 1
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == LOCATION
    assert " - INFO - datasets - " in (home / "logs" / "datasets.log").read_text()
    assert list(Path.cwd().iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "home", "run.yaml"}


@pytest.mark.slow
def test_assets_are_made_with_what_they_need_and_no_more(home: Path, tmp_path: Path) -> None:
    assert run_job(["top_2", "random_walk"], config(tmp_path, SMALL)) == 0
    store = Store(home)
    made = {name for name in STAGES if store.place(name).exists()}
    assert made == {"raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk"}


def test_a_job_runs_by_itself(home: Path) -> None:
    with pytest.raises(PipelineError, match="datasets is a job, and a job runs by itself"):
        run_job(["top_2", "datasets"], None)


@pytest.mark.slow
def test_a_failure_ends_in_its_sentence_alone(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_job(["datasets"], config(tmp_path, {"raw_corpus": {"config": {"corpus": "/no/where"}}})) == 1
    out, error = capfd.readouterr()
    (line,) = out.splitlines()
    assert (line.split()[0], line.split()[-1]) == ("raw_corpus", "failed")
    sentence, place = error.splitlines()
    assert sentence.startswith("The corpus /no/where does not exist")
    assert place == f"The whole log is in {home / 'logs' / 'datasets.log'}."
    assert "does not exist: give the setting corpus" in (home / "logs" / "datasets.log").read_text()


@pytest.mark.slow
def test_a_failure_outside_of_the_steps_is_said_too(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("adc_pipeline.defs.workspace.mark_as_run_of_this_location", refused)
    assert run_job(["datasets"], None) == 1
    sentence, place = capfd.readouterr().err.splitlines()
    assert sentence.startswith("A database of Dagster cannot be used (unable to open database file): check the disk")
    assert place.startswith("The whole log is in ")


@pytest.mark.parametrize(
    ("job", "ops", "sentence"),
    [
        ("datasest", {}, r"no job or asset datasest \(did you mean datasets\?\): the jobs are adc, "),
        ("top_3", {}, r"no job or asset top_3 \(did you mean top_2\?\): .*, the assets .*ascending, "),
        ("study", {}, "The job study makes one partition at a time"),
        ("datasets", {"raw_corpsu": {}}, r"raw_corpsu is no asset \(did you mean raw_corpus\?\)"),
        ("datasets", {"raw_corpus": {"config": {"corpsu": "x"}}}, r"no setting corpsu \(did you mean corpus\?\)"),
        ("datasets", ["raw_corpus"], r"`ops` is \['raw_corpus'\]; use a mapping of names"),
        ("datasets", {"raw_corpus": {"config": {"sample_seed": "x"}}}, "`sample_seed` is 'x'; use a whole number"),
    ],
)
def test_what_cannot_begin_is_refused_in_a_sentence(
    home: Path, tmp_path: Path, job: str, ops: Any, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence) as refused:
        run_job([job], config(tmp_path, ops))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["ops: [", "- a list", None])
def test_a_file_that_is_no_run_configuration_is_refused(home: Path, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"run.yaml (cannot be read|is not a mapping|does not exist)"):
        run_job(["datasets"], str(tmp_path / "run.yaml"))
    assert [path.name for path in home.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_run(
    home: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Store, "put", lambda *_: os.kill(os.getpid(), number))
    assert run_job(["datasets"], config(tmp_path, SMALL)) == 130
    shown = capfd.readouterr()
    assert shown.err == "Cancelled.\n"
    # The step, and not a failure.
    assert shown.out.splitlines()[-1].split() == ["raw_corpus", ANY, "s", "cancelled"]
    with dagster_instance(Store(home)) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]


def test_what_differs_in_a_number_only_is_said_once() -> None:
    full = "ADC_HOME = /srv/adc has {} MiB left and at least 256 are needed: make room."
    other = "There is no top_2 at /srv: materialize the asset top_2 first."
    assert distinct([full.format(9), other, full.format(12)]) == [full.format(9), other]


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = "a\x1b[31mb\tc\r\x07\N{RIGHT-TO-LEFT OVERRIDE}\n\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert printable(text) == "a\\x1b[31mb\tc\\r\\x07\\u202e\n\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.slow
def test_a_reader_that_ends_does_not_end_the_run() -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as out:
        progress = Progress(out)
        progress.line("read")
        os.close(reading)
        for _ in range(3):
            progress.line("not read")


def test_a_run_configuration_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(PipelineError, match="is a FIFO and no regular file"):
        read_config(str(tmp_path / "run.yaml"))
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    with pytest.raises(PipelineError, match="cannot be read"):
        read_config(str(tmp_path / "deep.yaml"))
