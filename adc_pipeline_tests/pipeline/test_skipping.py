"""A rebuild makes only what has changed, and reports in the log and in Dagster what it reuses."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from adc_pipeline import lineage
from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import damage, folder_digest
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.definitions import defs
from adc_pipeline.defs import ahead as defs_ahead
from adc_pipeline.defs.assets import preferences, walks
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.page import BREAK
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.relocation import relocate
from adc_pipeline.tracking.restoration import RESTORED
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import ASSET, DIGEST
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline_tests.drills.bit_flips import flip_every_file, flipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

# Bytes that a run of the job `adc` with nothing new may add to Dagster's history, 2.1 times what `datasets` adds.
LIMIT = 700_000
LAST = (*(kind.dataset for kind in KINDS.values()), "preferences")
DATASETS = ("raw_corpus", "utterances", "ranked_replies", *LAST)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_sample(folder, seed=0, conversations=60)
    return folder


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ADC_HOME in which the datasets have been made once."""
    home = tmp_path_factory.mktemp("first")
    ahead: list[Counts] = []

    def taken(making: Making[Any]) -> Counts | None:
        if counts := defs_ahead.taken(making):
            ahead.append(counts)
        return counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADC_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for module in (walks, preferences):
            patch.setattr(module, "taken", taken)
        assert run_datasets(corpus) == only(*DATASETS)
    assert ahead
    return home


@pytest.fixture
def home(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that ADC_HOME, to be changed."""
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(first, tmp_path / "home", symlinks=True)
    relocate(tmp_path / "home")
    # MLflow remembers in a process where the files of a run are, whatever the database.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    return tmp_path / "home"


def run_datasets(
    corpus: Path, tags: dict[str, str] | None = None, store: Store | None = None, **config: Any
) -> dict[str, bool]:
    """Run the job `datasets`; return for each asset whether it was made and not reused.

    Dagster's history is the one in ADC_HOME with `store`, as of `adc run`, and one of this run otherwise.
    """
    settings = {"raw_corpus": {"corpus": str(corpus)}} | config
    ops = {"ops": {name: {"config": values} for name, values in settings.items()}}
    with dagster_instance(store) if store else dg.DagsterInstance.ephemeral() as instance:
        return made_by(defs.resolve_job_def("datasets").execute_in_process(ops, instance=instance, tags=tags))


def made_by(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Return for each asset of a run whether it was made and not reused; check the checks and Dagster's records."""
    checks = [check for check in result.get_asset_check_evaluations() if check.blocking]
    # Two of the utterances or the ranked replies, and two of each dataset.
    assert len(checks) == 2 + 2 * len(LAST)
    assert all(check.passed for check in checks)
    made = {}
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        current = Store.from_environment().current(materialization.asset_key.to_user_string())
        assert str(materialization.metadata["digest"].value).replace(BREAK, "") == current.digest
        assert (materialization.tags or {})["dagster/data_version"] == current.digest
        made[current.name] = not materialization.metadata["unchanged"].value
    return made


def digests(home: Path) -> dict[str, str]:
    return {name: Store(home).current(name).digest for name in DATASETS}


def mlflow_runs(home: Path) -> list[Any]:
    tracking = Tracking.from_environment(home)
    client = tracking.client()
    # Without the parents.
    return list(client.search_runs([tracking.experiment(client)], f"tags.`{ASSET}` != ''"))


def only(*names: str) -> dict[str, bool]:
    return {name: name in names for name in DATASETS}


def test_a_rerun_reuses_everything_reports_it_and_leaves_little(
    home: Path, corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(*names: str) -> int:
        files = [path for name in names for path in [home / name, *(home / name).rglob("*")] if path.is_file()]
        return sum(path.stat().st_size for path in files)

    monkeypatch.setenv("DAGSTER_HOME", "")

    before = {path: path.lstat().st_mtime_ns for path in home.glob("store/*/*/**/*")}
    capfd.readouterr()
    assert run_datasets(corpus, store=Store(home)) == only()
    output = capfd.readouterr().err
    assert f"Nothing new: all {len(DATASETS)} assets of this run are up to date." in output
    assert output.count("is up to date: inputs, settings and code are those of") == len(DATASETS)
    assert {path: path.lstat().st_mtime_ns for path in home.glob("store/*/*/**/*")} == before
    assert len(mlflow_runs(home)) == len(DATASETS)
    made, history = ("store", "mlflow-artifacts", "mlflow.db"), size("dagster")
    before_run = size(*made)
    assert run_datasets(corpus, store=Store(home)) == only()
    assert size(*made) - before_run < 100_000
    # The pictures are in the history of the run before.
    assert size("dagster") - history < LIMIT / 2.05


def test_a_failed_run_does_not_report_that_nothing_is_new(
    home: Path, corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PipelineError("No walk today.")

    monkeypatch.setattr("adc_pipeline.defs.assets.walks.write_walks", fail)
    with pytest.raises(dg.Failure, match="No walk today"):
        run_datasets(corpus, top_2={"seed": 2})
    assert "Nothing new" not in capfd.readouterr().err


def test_a_changed_setting_rebuilds_its_asset_whose_page_says_why_and_how_to_make_it_again(
    home: Path, corpus: Path
) -> None:
    config = {"ops": {"raw_corpus": {"config": {"corpus": str(corpus)}}, "top_2": {"config": {"seed": 1}}}}
    job = defs.resolve_job_def("datasets")
    with dg.DagsterInstance.ephemeral() as instance:
        for expected in (only("top_2"), only()):
            assert made_by(job.execute_in_process(config, instance=instance)) == expected
        records = instance.fetch_materializations(dg.AssetKey("top_2"), limit=2).records
        reused, rebuilt = (record.asset_materialization.metadata for record in records if record.asset_materialization)
    # Lines as short as the page's narrowest column.
    assert rebuilt["reason"].value == "Rebuilt: setting seed has  \nchanged from 0 to 1."
    assert str(reused["reason"].value).startswith("Reused")
    assert rebuilt["made"].value == reused["made"].value
    assert rebuilt["dagster/row_count"].value == rebuilt["walks"].value
    # The picture is in the history once; a reused artefact names the run that shows it.
    assert "data:image/" in str(rebuilt["distributions"].value)
    assert "distributions" not in reused
    assert reused["pictures_in_run"].value == rebuilt["pictures_in_run"].value
    again = yaml.safe_load(str(rebuilt["run_config"].value).strip("` ").removeprefix("yaml"))
    assert again == config


def test_the_tag_again_rebuilds_everything_identically(
    home: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(home)
    # In the first run, datasets were begun while another one was made.
    for module in (walks, preferences):
        monkeypatch.setattr(module, "begun_ahead", lambda *_: None)
    assert run_datasets(corpus, {"adc/again": "true"}) == only(*DATASETS)
    assert digests(home) == before
    assert len(mlflow_runs(home)) == 2 * len(DATASETS)


def test_a_touched_file_rebuilds_nothing_downstream_and_a_changed_one_does(
    home: Path, corpus: Path, tmp_path: Path
) -> None:
    # The other tests need the times of the corpus as they are.
    copy = shutil.copytree(corpus, tmp_path / "copy" / corpus.name)
    lines = copy / "utterances.jsonl"
    run_datasets(copy)
    os.utime(lines)
    # The corpus is read again with the same content, so everything downstream is reused.
    assert run_datasets(copy) == only("raw_corpus")
    lines.write_text(lines.read_text().replace("?", "!"))
    assert run_datasets(copy) == only(*DATASETS)


def test_a_deleted_mlflow_run_is_restored(home: Path, corpus: Path) -> None:
    before = mlflow_runs(home)
    Tracking.from_environment(home).client().delete_run(before[0].info.run_id)
    assert run_datasets(corpus) == only()
    assert {run.info.run_id for run in mlflow_runs(home)} == {run.info.run_id for run in before}


def test_a_purged_mlflow_run_is_replaced_by_one_with_the_same_content(home: Path, corpus: Path) -> None:
    client = Tracking.from_environment(home).client()
    (old,) = [run for run in mlflow_runs(home) if run.data.tags[ASSET] == "ranked_replies"]
    client.delete_run(old.info.run_id)
    client._tracking_client.store._hard_delete_run(old.info.run_id)
    assert run_datasets(corpus) == only()
    (new,) = [run for run in mlflow_runs(home) if run.data.tags[ASSET] == "ranked_replies"]
    assert new.info.status == "FINISHED"
    assert new.data.tags[RESTORED] == "true"
    assert new.data.tags[DIGEST] == old.data.tags[DIGEST]
    assert new.data.params == old.data.params
    assert {**old.data.metrics, **new.data.metrics} == {**old.data.metrics, "seconds": new.data.metrics["seconds"]}
    assert [each.dataset.digest for each in new.inputs.dataset_inputs] == [
        each.dataset.digest for each in old.inputs.dataset_inputs
    ]
    assert [file.path for file in client.list_artifacts(new.info.run_id)] == ["distributions.png"]
    assert run_datasets(corpus) == only()
    assert len(mlflow_runs(home)) == len(DATASETS)


def test_another_tracking_database_is_filled_from_the_store(
    home: Path, corpus: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "team").mkdir()
    shutil.copy(empty_database, tmp_path / "team" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'team' / 'mlflow.db'}")
    assert run_datasets(corpus) == only()
    assert {run.data.tags[ASSET] for run in mlflow_runs(home)} == set(DATASETS)
    tree = Records([Tracking.from_environment(home).client()]).above(f"top_2/{digests(home)['top_2']}")
    assert {node.asset for node in tree.walk()} == {"top_2", "ranked_replies", "utterances", "raw_corpus"}


def test_files_that_mlflow_lost_are_logged_again(home: Path, corpus: Path) -> None:
    shutil.rmtree(home / "mlflow-artifacts")
    assert run_datasets(corpus) == only()
    client = Tracking.from_environment(home).client()
    found = {
        run.data.tags[ASSET]: [file.path for file in client.list_artifacts(run.info.run_id)]
        for run in mlflow_runs(home)
    }
    assert found == {name: [] if name == "raw_corpus" else ["distributions.png"] for name in DATASETS}


def test_a_dagster_without_history_shows_what_the_store_has(home: Path, corpus: Path) -> None:
    """Each run here has a history of its own. The home was moved, so that paths have changed."""
    with dg.DagsterInstance.ephemeral() as instance:
        defs.resolve_job_def("datasets").execute_in_process(
            {"ops": {"raw_corpus": {"config": {"corpus": str(corpus)}}}}, instance=instance
        )
        (record,) = instance.fetch_materializations(dg.AssetKey("top_2"), limit=1).records
    assert record.asset_materialization is not None
    shown = record.asset_materialization.metadata
    assert shown["unchanged"].value is True
    assert {"preview", "distributions", "turns.rejected", "mlflow_run"} <= set(shown)
    assert list(shown)[:3] == ["reason", "made", "settings"]
    assert isinstance(shown["distributions"], dg.MarkdownMetadataValue)
    assert "data:image/webp" in (shown["distributions"].value or "")


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
        "from adc_pipeline.core.store.artefacts import Store\n"
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
    # Processes that a run starts do not look for modules in the working directory.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    killed = subprocess.run(
        [sys.executable, "-c", code, str(corpus)], capture_output=True, check=False, env=variables, cwd=ROOT
    )
    assert killed.returncode == -9, killed.stderr
    # An artefact is put in place as the last act of its run, so that a current one is whole and its run is finished.
    third = ["ranked_replies"] if moment == "before it is in place" else []
    assert run_datasets(corpus) == only(*third, *LAST)
    assert digests(home) == expected
    assert all(folder_digest(Store(home).current(name).path) == expected[name] for name in DATASETS[1:])
    assert not list(home.glob("store/*/.making-*"))
    # A run an asset in the copied home, and together as many of the killed run and the last; one is unfinished.
    statuses = Counter(run.info.status for run in mlflow_runs(home))
    finished = 2 * len(DATASETS)
    assert statuses == ({"FINISHED": finished, "KILLED": 1} if third else {"FINISHED": finished})


def test_a_flipped_bit_in_any_file_of_the_store_is_noticed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`test_jobs.py` does so for models and evaluations."""
    store, rng, kinds = Store(home), random.Random(0), Counter[str]()
    for name in DATASETS:
        kinds += flip_every_file(store.current(name), rng)
    assert not [name for name in kinds if name.startswith("missed")]
    assert {"artefact.json", "making.json", "shown.json", "README.md", "files.json"} < kinds.keys()
    assert lineage.main(["--from", "raw_corpus", "--check"]) == 0
    capsys.readouterr()
    with flipped(store.current("top_2").path / "README.md", rng, keep_time=True):
        assert lineage.main(["--from", "raw_corpus", "--check"]) == 1
    assert "README.md" in capsys.readouterr().out


def test_content_that_was_altered_under_its_time_is_named_by_the_step_that_fails_on_it(
    home: Path, corpus: Path
) -> None:
    made = Store(home).current("ranked_replies")
    (file,) = made.path.rglob("ranked*.parquet")
    stat = file.stat()
    file.write_bytes(bytes(stat.st_size))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    sentence = (
        r"ranked_replies is damaged, .*parquet .* is missing or altered: materialize the asset ranked_replies again"
    )
    with pytest.raises(dg.Failure, match=sentence):
        run_datasets(corpus, top_2={"seed": 1})
    assert run_datasets(corpus, top_2={"seed": 1}) == only("ranked_replies", "top_2")
    assert damage(Store(home).current("ranked_replies")) == []
