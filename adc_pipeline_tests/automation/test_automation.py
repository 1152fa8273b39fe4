"""Schedules, sensors and the run queue in Dagster: off by default, with the time zone and run configuration set."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher.base import WorkerStatus

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.definitions import defs
from adc_pipeline.defs.automation import AutomationSettings, read_automation, read_run_config
from adc_pipeline.defs.launcher import WatchfulRunLauncher
from adc_pipeline.defs.schedules import schedule
from adc_pipeline.defs.sensors import changed_corpus
from adc_pipeline.defs.workspace import PROCESS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADC_HOME", str(tmp_path))
    monkeypatch.delenv("ADC_CORPUS", raising=False)
    return tmp_path


def test_the_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)


def test_schedules_and_sensors_are_off_by_default() -> None:
    repository = defs.get_repository_def()
    jobs = {"weekly": "adc", "nightly": "datasets", "prune_weekly": "prune"}
    assert {each.name: each.job_name for each in repository.schedule_defs} == jobs
    assert all(each.default_status == dg.DefaultScheduleStatus.STOPPED for each in repository.schedule_defs)
    assert {each.name for each in repository.sensor_defs} == {"changed_corpus", "stale_assets"}
    assert all(each.default_status == dg.DefaultSensorStatus.STOPPED for each in repository.sensor_defs)


def test_every_asset_outside_the_study_has_freshness_and_automation() -> None:
    for spec in defs.resolve_all_asset_specs():
        ours = spec.group_name != "study"
        assert (spec.freshness_policy is not None) == ours
        assert (spec.automation_condition is not None) == (ours and spec.key != dg.AssetKey("raw_corpus"))


@pytest.mark.slow
def test_no_asset_is_automated_if_schedules_have_a_run_configuration(home: Path) -> None:
    """Dagster starts automated runs without configuration, so these would use other settings than the schedules."""
    (home / "automation.yaml").write_text("run_config: run.yaml\n")
    code = (
        "from adc_pipeline.definitions import defs\n"
        "print([each.name for each in defs.get_repository_def().sensor_defs])\n"
        "print({spec.automation_condition for spec in defs.resolve_all_asset_specs()})\n"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["['changed_corpus']", "{None}"]


def test_trainings_share_a_pool() -> None:
    nodes = {node.name: node for node in defs.resolve_job_def("adc").nodes_in_topological_order}
    pools = {name for name, node in nodes.items() if node.definition.pools == {"training"}}
    assert pools == {"top_2_model", "random_walk_model"}
    assert defs.resolve_job_def("study").get_node_named("study_cell").definition.pools == {"training"}


def test_the_file_sets_time_zone_and_run_configuration(home: Path) -> None:
    assert read_automation(home) == AutomationSettings()
    (home / "automation.yaml").write_text("time_zone: Europe/Berlin\nrun_config: run.yaml\n")
    ops = {"raw_corpus": {"corpus": "sample"}, "base_model": {"layers": 1}, "prune_store": {"delete": True}}
    run = {"ops": {name: {"config": config} for name, config in ops.items()}}
    (home / "run.yaml").write_text(yaml.safe_dump(run | {"resources": {"workspace": {"config": {"threads": 1}}}}))
    settings = read_automation(home)
    assert settings.time_zone == "Europe/Berlin"
    config = read_run_config(home, settings)
    assert config["ops"] == run["ops"]
    assert config["resources"] == {"workspace": {"config": {"threads": 1}}}
    for job, cron in (("datasets", settings.nightly), ("prune", settings.prune)):
        timed = schedule("timed", job, cron, settings.time_zone, "")
        assert timed.execution_timezone == "Europe/Berlin"
        with dg.build_schedule_context(repository_def=defs.get_repository_def()) as context:
            (request,) = timed.evaluate_tick(context).run_requests or ()
        assert request.run_config["ops"] == run["ops"]
        assert dg.validate_run_config(defs.resolve_job_def(job), request.run_config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_zone: Mars/Olympus", "which is not a time zone"),
        ("rebuild: everything", "use one of adc, datasets"),
        ("timezone: UTC", r"no setting timezone .did you mean time_zone"),
        ("weekly: 3", "not a cron expression"),
        ("- weekly", "not a mapping"),
        ("weekly: [", "give a YAML file"),
    ],
)
def test_an_invalid_file_is_refused(home: Path, text: str, message: str) -> None:
    (home / "automation.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message):
        read_automation(home)


def tick(cursor: str | None) -> dg.SensorResult:
    with dg.build_sensor_context(cursor=cursor, repository_def=defs.get_repository_def()) as context:
        result = changed_corpus(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_the_sensor_requests_the_job_and_the_run_configuration_of_the_file(home: Path) -> None:
    (home / "automation.yaml").write_text("rebuild: datasets\nrun_config: run.yaml\n")
    (home / "run.yaml").write_text("ops: {raw_corpus: {config: {sample_seed: 3}}, base_model: {config: {layers: 1}}}")
    first = tick(None)
    assert first.skip_reason
    (request,) = tick(first.cursor).run_requests or ()
    assert request.job_name == "datasets"
    assert request.run_config["ops"]["raw_corpus"] == {"config": {"sample_seed": 3}}


@pytest.mark.parametrize("text", ["rebuild: nothing", "run_config: gone.yaml", "run_config: odd.yaml"])
def test_the_sensor_skips_with_a_reason_if_a_file_is_invalid(home: Path, text: str) -> None:
    (home / "automation.yaml").write_text(text)
    (home / "odd.yaml").write_text("ops: {raw_corpus: {config: {corpsu: sample}}}")
    result = tick(None)
    assert result.skip_reason
    assert not result.run_requests


def test_the_queue_starts_one_writer_and_one_training_at_a_time() -> None:
    config, _ = dagster_instance_config(str(ROOT))
    assert config["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}


@pytest.mark.parametrize(
    ("job", "assets", "pools"),
    [
        ("adc", None, {"places", "training"}),
        ("datasets", None, {"places"}),
        ("study_inputs", None, {"places"}),
        # What the button *Materialize* starts.
        (None, ["top_2"], {"places"}),
        (None, ["random_walk_model"], {"training"}),
        (None, ["comparison", "top_2_champion"], {"places"}),
    ],
)
def test_every_run_is_under_the_limits_of_the_queue(job: str | None, assets: list[str] | None, pools: set[str]) -> None:
    found = defs.resolve_job_def(job) if job else defs.resolve_implicit_global_asset_job_def()
    if assets:
        found = found.get_subset(asset_selection={dg.AssetKey(name) for name in assets})
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(found)
    assert run.run_op_concurrency is not None
    assert set(run.run_op_concurrency.all_pools or ()) == pools


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_reported_as_failed(home: Path) -> None:
    """A run in a process of its own sets the tag and is killed; the launcher reports it as failed."""
    (home / "dagster").mkdir()
    code = (
        "import os, signal, sys, dagster as dg\n"
        "from adc_pipeline.definitions import defs\n"
        "from adc_pipeline.core.artefacts import Store\n"
        "Store.put = lambda *_: (print('here', flush=True), sys.stdin.read())\n"
        f"instance = dg.DagsterInstance.local_temp({str(home / 'dagster')!r})\n"
        "config = {'ops': {'raw_corpus': {'config': {'sample_conversations': 5}}}}\n"
        "defs.resolve_job_def('datasets').execute_in_process(config, instance=instance)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    launcher = WatchfulRunLauncher()
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert str(process.pid) in run.tags[PROCESS]
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED
