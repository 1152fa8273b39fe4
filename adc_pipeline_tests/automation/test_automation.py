"""Schedules, sensors and the run queue in Dagster: off by default, with the time zone and run configuration set."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher.base import WorkerStatus

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact, write_making
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.definitions import defs
from adc_pipeline.defs.automation.schedules import schedule, schedules
from adc_pipeline.defs.automation.sensors import changed_corpus
from adc_pipeline.defs.automation.settings import Automation, AutomationSettings, read_automation, read_run_config
from adc_pipeline.defs.launcher import WatchfulRunLauncher
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.defs.started_by import current_settings, keeps_settings, started_by
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
    messages = {"failed_runs", "warned_runs", "late_runs"}
    assert {each.name for each in repository.sensor_defs} == {"changed_corpus", "stale_assets", *messages}
    assert all(each.default_status == dg.DefaultSensorStatus.STOPPED for each in repository.sensor_defs)


def test_every_asset_outside_study_and_months_has_freshness_and_automation() -> None:
    for spec in defs.resolve_all_asset_specs():
        ours = spec.group_name not in ("study", "months")
        assert (spec.freshness_policy is not None) == ours
        assert (spec.automation_condition is not None) == (ours and spec.key != dg.AssetKey("raw_corpus"))


def test_trainings_share_a_pool() -> None:
    nodes = {node.name: node for node in defs.resolve_job_def("adc").nodes_in_topological_order}
    pools = {name for name, node in nodes.items() if node.definition.pools == {"training"}}
    assert pools == {"top_2_model", "random_walk_model", "ascending_model"}
    assert defs.resolve_job_def("study").get_node_named("study_cell").definition.pools == {"training"}


@pytest.mark.slow
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
        (request,) = tick_of(timed).run_requests
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
        ("nightly: 0 3 * * *\nnightly: 0 5 * * *", "nightly stands twice in the mapping that begins in line 1"),
        ("webhook: https://hooks.example/secret", "`webhook` is no name of an environment variable"),
        ("webhook: [https://hooks.example/secret]", r"`webhook` is \.\.\.; use a text"),
        ("mail_password: {is: secret}", r"`mail_password` is \.\.\.; use a text"),
        ("mail_to: [a@example.org]", "`mail_to` needs `mail_server`"),
    ],
)
def test_a_wrong_file_is_told_by_every_tick_and_description(home: Path, text: str, message: str) -> None:
    (home / "automation.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message) as error:
        read_automation(home)
    assert "secret" not in str(error.value)
    timed = schedule("timed", "datasets", "0 4 * * *", "UTC", "Rebuilds.")
    assert re.search(message, timed.description or "")
    skipped = tick_of(timed)
    assert re.search(message, skipped.skip_message or "")
    assert not skipped.run_requests
    assert re.search(message, said(tick(None)))


def said(result: dg.SensorResult) -> str:
    """Return why a tick of a sensor was skipped."""
    reason = result.skip_reason
    return (reason.skip_message or "") if isinstance(reason, dg.SkipReason) else reason or ""


@cache
def dagster() -> dg.DagsterInstance:
    """An instance on disk, which a tick needs; shared by all tests, since making it takes half a second."""
    return dg.DagsterInstance.local_temp()


def tick_of(timed: dg.ScheduleDefinition) -> Any:
    with dg.build_schedule_context(dagster(), repository_def=defs.get_repository_def()) as context:
        return timed.evaluate_tick(context)


def test_nothing_is_started_where_adc_home_is_gone(home: Path) -> None:
    home.rmdir()
    gone = f"ADC_HOME = {home} is no folder any more: bring it back"
    for timed in schedules:
        assert gone in str(tick_of(timed).skip_message)
    watched = tick("remembered")
    assert gone in said(watched)
    assert not watched.run_requests
    assert not home.exists()


def test_nothing_is_started_where_adc_home_is_empty_and_was_not(home: Path) -> None:
    """As of a disk that is not mounted, which leaves a folder."""
    with dg.DagsterInstance.ephemeral() as instance:
        assert not Automation.load().hindrance(instance)
        instance.report_runless_asset_event(dg.AssetMaterialization("raw_corpus"))
        assert Automation.load().hindrance(instance).startswith(f"ADC_HOME = {home} holds nothing of what Dagster")
        with (store := Store(home)).aside("raw_corpus") as folder:
            write_making(made := Artefact("raw_corpus", folder, "d", {}), {})
            store.put(folder, made)
        assert not Automation.load().hindrance(instance)


@pytest.mark.parametrize("name", ["missing", "closed", "empty", "pipe"])
def test_a_schedule_waits_for_a_corpus_that_is_not_there(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = home / name
    if name == "closed":
        missing.symlink_to(missing)
    if name == "empty":
        missing.mkdir()
    if name == "pipe":
        os.mkfifo(missing)
    monkeypatch.setenv("ADC_CORPUS", str(missing))
    rebuilds = {each.name: tick_of(each) for each in schedules}
    assert rebuilds.pop("prune_weekly").run_requests
    for made in rebuilds.values():
        assert str(made.skip_message).startswith(f"The corpus {missing} ")
        assert not made.run_requests
    monkeypatch.setenv("ADC_CORPUS", "sample")
    assert all(tick_of(each).run_requests for each in schedules)


@pytest.mark.slow
def test_the_code_loads_with_a_wrong_file(home: Path) -> None:
    (home / "automation.yaml").write_text("weekly: 3\nrun_config: run.yaml\n")
    code = "from adc_pipeline.definitions import defs\nprint(defs.get_schedule_def('nightly').description)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Every tick is skipped until this is corrected" in done.stdout
    assert "which is not a cron expression" in done.stdout


def test_the_run_configuration_is_checked_when_it_is_loaded(home: Path) -> None:
    (home / "automation.yaml").write_text("run_config: run.yaml\n")
    timed = schedule("timed", "datasets", "0 4 * * *", "UTC", "")
    for text, message in (
        ("ops: {top_2: {config: {sed: 1}}}", "run.yaml: top_2 has no setting sed .did you mean seed"),
        ("ops: {base_model: {config: {layers: none}}}", "`layers` is 'none'"),
        ("ops: {tp_2: {}}", "tp_2 is no asset"),
        ("- ops", "not a mapping"),
        (None, "does not exist"),
    ):
        if text is None:
            (home / "run.yaml").unlink()
        else:
            (home / "run.yaml").write_text(text)
        assert re.search(message, tick_of(timed).skip_message or "")
        assert re.search(message, Automation.load().describe([]))


def test_descriptions_name_the_corpus_and_the_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def described() -> str:
        return schedule("timed", "datasets", "0 4 * * *", "UTC", "Rebuilds.").description or ""

    assert "Uses the corpus sample and default settings" in described()
    monkeypatch.setenv("ADC_CORPUS", "/data/mine.csv")
    assert "Uses the corpus /data/mine.csv" in described()
    monkeypatch.setenv("ADC_CORPUS", "/data/\x1b]0;mine\x07.csv")
    assert "until this is corrected: `corpus` is '/data/\\x1b]0;mine\\x07.csv'; use a text without" in described()
    (home / "automation.yaml").write_text("run_config: run.yaml\n")
    (home / "run.yaml").write_text(
        "ops: {raw_corpus: {config: {corpus: /data/x}}, top_2: {config: {seed: 3}}, base_model: {config: {layers: 1}}}"
    )
    assert "the corpus /data/x and the settings of run.yaml: raw_corpus: corpus '/data/x', top_2: seed 3" in described()


def put_version(home: Path, name: str, settings: dict[str, Any], by: str = "") -> Artefact:
    """Put a version of an asset in place, made by a person or by a schedule."""
    store = Store(home)
    with store.aside(name) as folder:
        (folder / "content").write_text(json.dumps(settings))
        made = Artefact(name, folder, folder_digest(folder), settings=settings)
        write_making(made, {"run": "", "address": "", "outside": {}, "by": by})
        return store.put(folder, made)


DEFAULTS: dict[str, Any] = {"walks_per_conversation": 1, "seed": 0}


def test_a_schedule_does_not_undo_what_a_person_made(home: Path) -> None:
    timed = schedule("timed", "datasets", "0 4 * * *", "UTC", "")
    put_version(home, "top_2", {**DEFAULTS, "gone": True})
    assert tick_of(timed).run_requests
    put_version(home, "top_2", {**DEFAULTS, "walks_per_conversation": 2})
    reason = tick_of(timed).skip_message or ""
    assert "top_2 was made by a person with walks_per_conversation 2 in place of 1" in reason
    assert "name a file with the settings to use as `run_config`" in reason
    # Of an asset that the job does not make.
    assert not Automation.load().refusal(["random_walk"], dagster())
    # With the same settings, named by a person.
    (home / "automation.yaml").write_text("run_config: run.yaml\n")
    (home / "run.yaml").write_text("ops: {top_2: {config: {walks_per_conversation: 2}}}")
    assert tick_of(timed).run_requests
    # Other settings, named by a person since.
    (home / "run.yaml").write_text("ops: {top_2: {config: {walks_per_conversation: 3}}}")
    assert tick_of(timed).run_requests
    # Other settings, named before.
    os.utime(home / "run.yaml", (1, 1))
    assert "walks_per_conversation 2 in place of 3" in (tick_of(timed).skip_message or "")
    # What a schedule made may be made again with other settings.
    put_version(home, "top_2", {**DEFAULTS, "walks_per_conversation": 4}, by="schedule nightly")
    assert tick_of(timed).run_requests


@pytest.mark.slow
def test_a_schedule_does_not_undo_what_a_person_is_making(home: Path) -> None:
    timed = schedule("timed", "datasets", "0 4 * * *", "UTC", "")
    config = {"ops": {"top_2": {"config": {"walks_per_conversation": 2}}}}

    def refused(status: str = "STARTED", job: str = "datasets", run_config: Any = config, **others: Any) -> str:
        going = dg.DagsterRun(job, status=dg.DagsterRunStatus[status], run_config=run_config, **others)
        dagster().add_run(going)
        found = tick_of(timed)
        dagster().delete_run(going.run_id)
        reason = found.skip_message or ""
        assert bool(found.run_requests) is not bool(reason)
        return reason

    two = "a run that has not ended makes top_2 with walks_per_conversation 2 in place of 1"
    assert two in refused()
    assert two in refused("NOT_STARTED")
    assert two in refused(job="adc")
    assert not refused("SUCCESS")
    assert not refused(tags={"dagster/schedule_name": "nightly"})
    assert not refused(run_config={})
    assert not refused(run_config={"ops": {"top_2": {"config": {"walks_per_conversation": "1"}}}})
    assert not refused(run_config={"ops": {"top_2": {"config": {"walks": 1}}}})
    # The button *Materialize*, and a file for several jobs whose assets it does not make.
    button = "__ASSET_JOB"
    assert two in refused(job=button, asset_selection=frozenset([dg.AssetKey("top_2")]))
    assert not refused(job=button, asset_selection=frozenset([dg.AssetKey("random_walk")]))
    assert not refused(job="study_result")
    # A job of a preset, to which a command gives no configuration.
    assert "makes top_2 with format 'released' in place of 'default'" in refused(job="datasets_released", run_config={})
    # The default, which a person chose by giving none.
    (home / "automation.yaml").write_text("run_config: run.yaml\n")
    (home / "run.yaml").write_text(json.dumps(config))
    assert "makes top_2 with walks_per_conversation 1 in place of 2" in refused(run_config={})
    assert not refused(run_config=config)


def test_another_corpus_is_not_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = home / "corpus.csv"
    corpus.write_text("id\n")
    settings = vars(CorpusSettings(str(corpus)))
    put_version(home, "raw_corpus", json.loads(json.dumps(settings)))
    timed = schedule("timed", "datasets", "0 4 * * *", "UTC", "")
    assert f"raw_corpus was made by a person with corpus '{corpus}' in place of 'sample'" in tick_of(timed).skip_message
    monkeypatch.setenv("ADC_CORPUS", str(corpus))
    assert tick_of(timed).run_requests
    # The sensor: the first look remembers, a change waits until it may be built.
    monkeypatch.delenv("ADC_CORPUS")
    first = tick(None)
    assert "is remembered" in said(first)
    (home / "automation.yaml").write_text("run_config: run.yaml\nrebuild: datasets\n")
    (home / "run.yaml").write_text("ops: {raw_corpus: {config: {sample_seed: 3}}}")
    os.utime(home / "run.yaml", (1, 1))
    cursor = first.cursor
    for expected in ("the next tick checks", "would undo what a person made", "would undo what a person made"):
        result = tick(cursor)
        assert expected in said(result)
        cursor = result.cursor
    (home / "run.yaml").touch()
    assert tick(cursor).run_requests


def test_a_tick_says_why_it_asks_for_a_run(home: Path) -> None:
    with dg.build_schedule_context(dagster(), repository_def=defs.get_repository_def()) as context:
        lines: list[str] = []

        def keep(record: logging.LogRecord) -> bool:
            lines.append(record.getMessage())
            return True

        context.log.addFilter(keep)
        assert defs.get_schedule_def("nightly").evaluate_tick(context).run_requests
    assert lines == [
        "Starts the job datasets, since it is time (0 4 * * *, UTC). Uses the corpus sample and default settings"
        " (automation.yaml names no `run_config`)."
    ]


@pytest.mark.parametrize(
    ("tags", "by", "keeps"),
    [
        ({}, "", False),
        ({"dagster/backfill": "x"}, "", False),
        ({"dagster/schedule_name": "nightly"}, "schedule nightly", False),
        ({"dagster/sensor_name": "changed_corpus"}, "sensor changed_corpus", False),
        (
            {"dagster/sensor_name": "stale_assets", "dagster/from_automation_condition": "true"},
            "sensor stale_assets",
            True,
        ),
    ],
)
def test_who_started_a_run(tags: dict[str, str], by: str, keeps: bool) -> None:
    assert started_by(tags) == by
    assert keeps_settings(tags) is keeps


def test_a_stale_asset_keeps_the_settings_of_its_current_version(home: Path) -> None:
    stage, store = STAGES["top_2"], Store(home)
    assert current_settings(stage, store) is None
    put_version(home, "top_2", {"walks_per_conversation": 2, "of_another_release": 1})
    assert current_settings(stage, store) == {"walks_per_conversation": 2}


def tick(cursor: str | None) -> dg.SensorResult:
    with dg.build_sensor_context(dagster(), cursor, repository_def=defs.get_repository_def()) as context:
        result = changed_corpus(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_the_sensor_requests_the_job_and_the_run_configuration_of_the_file(home: Path) -> None:
    first = tick(None)
    assert "is remembered" in said(first)
    assert "has not changed" in said(tick(first.cursor))
    (home / "automation.yaml").write_text("rebuild: datasets\nrun_config: run.yaml\n")
    (home / "run.yaml").write_text("ops: {raw_corpus: {config: {sample_seed: 3}}, base_model: {config: {layers: 1}}}")
    second = tick(first.cursor)
    assert second.skip_reason
    (request,) = tick(second.cursor).run_requests or ()
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
        "from adc_pipeline.core.store.artefacts import Store\n"
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
