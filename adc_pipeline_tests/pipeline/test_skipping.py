"""A rebuild makes only what has changed, and reports in the log and in Dagster what it reuses."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.core.artefacts import Store, folder_digest
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.sample import write_sample
from adc_pipeline.definitions import defs
from adc_pipeline.tracking.relocation import relocate
from adc_pipeline.tracking.runs import Tracking

pytestmark = pytest.mark.slow

DATASETS = ("raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_sample(folder, seed=0, conversations=60)
    return folder


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ADC_HOME in which the datasets have been made once."""
    home = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADC_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_datasets(corpus) == only(*DATASETS)
    return home


@pytest.fixture
def home(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that ADC_HOME, to be changed."""
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(first, tmp_path / "home", symlinks=True)
    relocate(tmp_path / "home")
    return tmp_path / "home"


def run_datasets(corpus: Path, tags: dict[str, str] | None = None, **config: Any) -> dict[str, bool]:
    """Run the job `datasets`; return for each asset whether it was made and not reused."""
    settings = {"raw_corpus": {"corpus": str(corpus)}} | config
    ops = {"ops": {name: {"config": values} for name, values in settings.items()}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("datasets").execute_in_process(ops, instance=instance, tags=tags)
    assert len(result.get_asset_check_evaluations()) == 6
    assert all(check.passed for check in result.get_asset_check_evaluations())
    made = {}
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        current = Store.from_environment().current(materialization.asset_key.to_user_string())
        assert materialization.metadata["digest"].value == current.digest
        assert (materialization.tags or {})["dagster/data_version"] == current.digest
        made[current.name] = not materialization.metadata["unchanged"].value
    return made


def digests(home: Path) -> dict[str, str]:
    return {name: Store(home).current(name).digest for name in DATASETS}


def mlflow_runs(home: Path) -> list[Any]:
    tracking = Tracking.from_environment(home)
    client = tracking.client()
    return list(client.search_runs([tracking.experiment(client)]))


def only(*names: str) -> dict[str, bool]:
    return {name: name in names for name in DATASETS}


def test_a_rerun_reuses_everything_and_reports_it(home: Path, corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.lstat().st_mtime_ns for path in home.glob("store/*/*/**/*")}
    capfd.readouterr()
    assert run_datasets(corpus) == only()
    output = capfd.readouterr().err
    assert "Nothing new: all 5 assets of this run are up to date." in output
    assert output.count("is up to date: inputs, settings and code are those of") == 5
    assert {path: path.lstat().st_mtime_ns for path in home.glob("store/*/*/**/*")} == before
    assert len(mlflow_runs(home)) == 5


def test_a_failed_run_does_not_report_that_nothing_is_new(
    home: Path, corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PipelineError("No walk today.")

    monkeypatch.setattr("adc_pipeline.defs.walks.write_walks", fail)
    with pytest.raises(dg.Failure, match="No walk today"):
        run_datasets(corpus, top_2={"seed": 2})
    assert "Nothing new" not in capfd.readouterr().err


def test_a_changed_setting_rebuilds_its_asset_and_what_changes_downstream(home: Path, corpus: Path) -> None:
    assert run_datasets(corpus, top_2={"seed": 1}) == only("top_2")
    assert run_datasets(corpus, top_2={"seed": 1}) == only()


def test_the_tag_again_rebuilds_everything_identically(home: Path, corpus: Path) -> None:
    before = digests(home)
    assert run_datasets(corpus, {"adc/again": "true"}) == only(*DATASETS)
    assert digests(home) == before
    assert len(mlflow_runs(home)) == 10


def test_a_touched_file_rebuilds_nothing_downstream_and_a_changed_one_does(home: Path, corpus: Path) -> None:
    lines = corpus / "utterances.jsonl"
    content, stat = lines.read_text(), lines.stat()
    os.utime(lines)
    # The corpus is read again with the same content, so everything downstream is reused.
    assert run_datasets(corpus) == only("raw_corpus")
    lines.write_text(content.replace("?", "!"))
    try:
        assert run_datasets(corpus) == only(*DATASETS)
    finally:
        # Restore the file for the other tests.
        lines.write_text(content)
        os.utime(lines, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_an_artefact_whose_mlflow_run_is_gone_is_rebuilt(home: Path, corpus: Path) -> None:
    tracking = Tracking.from_environment(home)
    client = tracking.client()
    (run,) = client.search_runs([tracking.experiment(client)], "tags.`adc.asset` = 'ranked_replies'")
    client.delete_run(run.info.run_id)
    assert run_datasets(corpus) == only("ranked_replies")


@pytest.mark.parametrize("moment", ["before it is in place", "before its run has ended"])
def test_no_unfinished_artefact_of_a_killed_run_is_reused(home: Path, corpus: Path, moment: str) -> None:
    """SIGKILL at the two worst moments of the third asset; `drills/kills.py` kills at random moments."""
    expected = digests(home)
    for folder in ("store", "corpus", "ranking", "datasets"):
        shutil.rmtree(home / folder)
    method = {"before it is in place": "Store.put", "before its run has ended": "Run.metrics"}[moment]
    # A run logs its counts first and its seconds last.
    number = {"Store.put": 3, "Run.metrics": 6}[method]
    code = (
        "import os, signal, sys\n"
        "from adc_pipeline.core.artefacts import Store\n"
        "from adc_pipeline.tracking.runs import Run\n"
        "from adc_pipeline_tests.pipeline.test_skipping import *\n"
        f"real, calls = {method}, []\n"
        "def killing(*given, **named):\n"
        "    calls.append(given)\n"
        f"    if len(calls) == {number}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*given, **named)\n"
        f"{method} = killing\n"
        "run_datasets(Path(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(corpus)], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    # The third artefact may be current, but its run has not finished, so it is not reused.
    assert run_datasets(corpus) == only("ranked_replies", "top_2", "random_walk")
    assert digests(home) == expected
    assert all(folder_digest(Store(home).current(name).path) == expected[name] for name in DATASETS[1:])
    assert not list(home.glob("store/*/.making-*"))
    # Five runs in the copied home, two finished and one unfinished of the killed run, three of the last.
    statuses = Counter(run.info.status for run in mlflow_runs(home))
    assert statuses == {"FINISHED": 10, "KILLED": 1}
