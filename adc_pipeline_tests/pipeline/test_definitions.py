"""Snapshots of assets, checks, jobs, schedules and sensors, so that a review shows every change of them.

After an intended change: `pytest adc_pipeline_tests/pipeline/test_definitions.py --snapshot-update`, and commit
`__snapshots__/test_definitions.ambr`.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

import dagster as dg
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.definitions import defs
from adc_pipeline.defs import run_config
from adc_pipeline.defs.look_ahead import check_values
from adc_pipeline.defs.stage import SETTINGS, STAGES
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.study.configuration import OPS, OTHERS, RESOURCES
from adc_pipeline.training.settings import TrainingSettings
from adc_pipeline.walks.kinds import KINDS

PACKAGE = Path(__file__).parents[2] / "adc_pipeline"


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return defs.get_repository_def()


def as_yaml(value: dict[str, Any]) -> str:
    """Render nested dictionaries for a snapshot, one field a line, leaving out what is empty."""
    kept = {name: {field: held for field, held in fields.items() if held} for name, fields in value.items()}
    return yaml.safe_dump(kept, width=110)


def names(keys: Iterable[dg.AssetKey]) -> list[str]:
    return sorted(key.to_user_string() for key in keys)


def test_assets(snapshot: SnapshotAssertion) -> None:
    graph = defs.resolve_asset_graph()
    assets = {
        key.to_user_string(): {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "deps": names(node.parent_keys),
            "pools": sorted(node.pools or ()),
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "automation": node.automation_condition.get_label() if node.automation_condition else None,
            "freshness": node.freshness_policy is not None,
        }
        for key in graph.get_all_asset_keys()
        for node in [graph.get(key)]
    }
    assert as_yaml(assets) == snapshot
    assert set(STAGES) == set(assets)


def test_checks(snapshot: SnapshotAssertion) -> None:
    graph = defs.resolve_asset_graph()
    checks: dict[str, dict[str, str]] = {}
    for key in graph.asset_check_keys:
        blocking = graph.get_check_spec(key).blocking
        checks.setdefault(key.asset_key.to_user_string(), {})[key.name] = "blocking" if blocking else "warning"
    assert as_yaml(checks) == snapshot


def test_jobs(repository: dg.RepositoryDefinition, snapshot: SnapshotAssertion) -> None:
    jobs = {
        job.name: {
            "assets": names(job.asset_layer.selected_asset_keys),
            "ops": [] if job.asset_layer.selected_asset_keys else sorted(node.name for node in job.nodes),
            "tags": {name: value for name, value in job.tags.items() if not name.startswith(".dagster")},
        }
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    assert as_yaml(jobs) == snapshot


def test_schedules(repository: dg.RepositoryDefinition, snapshot: SnapshotAssertion) -> None:
    schedules = {
        each.name: {
            "job": each.job_name,
            "cron": each.cron_schedule,
            "time zone": each.execution_timezone,
            "default status": each.default_status.value,
        }
        for each in repository.schedule_defs
    }
    assert as_yaml(schedules) == snapshot


def test_sensors(repository: dg.RepositoryDefinition, snapshot: SnapshotAssertion) -> None:
    sensors = {
        each.name: {
            "type": each.sensor_type.value,
            "jobs": sorted(target.job_name for target in each.targets if target.job_name),
            "seconds between ticks": each.minimum_interval_seconds,
            "default status": each.default_status.value,
        }
        for each in repository.sensor_defs
    }
    assert as_yaml(sensors) == snapshot


def test_the_study_knows_what_its_jobs_make() -> None:
    ops = {
        job: {node.name for node in defs.resolve_job_def(job).nodes if node.name in made} for job, made in OPS.items()
    }
    assert {job: set(made) for job, made in OPS.items()} == ops


@pytest.mark.parametrize("preset", sorted((PACKAGE / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_is_valid_run_configuration(preset: Path) -> None:
    assert check_values(yaml.safe_load(preset.read_text()), {node.name for node in defs.resolve_job_def("adc").nodes})


def test_settings_have_defaults_and_descriptions_in_the_launchpad() -> None:
    job = defs.resolve_job_def("adc")
    assert job.config_mapping is not None
    schema: Any = job.config_mapping.config_schema.config_type
    ops = schema.fields["ops"].config_type.inner_type

    def settings(asset: str) -> Any:
        return ops.fields[asset].config_type.inner_type.fields["config"].config_type.inner_type

    shown = settings("ranked_replies")
    assert set(shown.fields) == {field.name for field in fields(RankingSettings)}
    assert all(field.description and not field.is_required for field in shown.fields.values())
    assert shown.fields["speakers"].default_value == ["AutoModerator"]
    for kind in KINDS.values():
        assert settings(kind.model).fields["epochs"].default_value == kind.epochs


def test_a_job_takes_a_file_that_serves_other_jobs() -> None:
    given = {
        "ops": {"top_2_model": {"config": {"learning_rate": "1e-4"}}, "prune_store": {"config": {"delete": True}}},
        "resources": {"workspace": {"config": {"threads": "2"}}},
    }
    for name in ("adc", "datasets", "datasets_released", "adc_gpu", "prune", "study_inputs", "study_result"):
        assert dg.validate_run_config(defs.resolve_job_def(name), given)["resources"]["workspace"]
    settings = check_values(given, {"raw_corpus", "top_2_model"})
    assert set(settings) == {"raw_corpus", "top_2_model"}
    assert settings["top_2_model"] == TrainingSettings(learning_rate=1e-4)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"raw_corpus": {}}, "raw_corpus is no part of a run configuration: put it below `ops:`."),
        ({"shards": {}}, "shards is no part of a run configuration: put it below `resources:`."),
        ({"sample_seed": 5},
         "sample_seed is no part of a run configuration: put it below `config:` of an asset in `ops:` (raw_corpus)."),
        ({"op": {}}, "op is no part of a run configuration (did you mean ops?)."),
        ({"tags": {}}, "tags is no part of a run configuration: use ops, resources, execution, loggers."),
        ({"resources": {"workspace": {"threads": 2}}}, "workspace: put its settings below `config:`."),
        ({"ops": {"prune_store": {"config": {"keep_dys": 3}}}},
         "prune_store has no setting keep_dys (did you mean keep_days?)."),
        ({"execution": {"config": {"multiprocess": {}}}}, "a run executes its steps in one process."),
        ({"loggers": {"consoles": {}}}, "`loggers` is {'consoles': {}}; use {console: "),
        ({"loggers": {"console": {"config": {"log_level": "LOUD"}}}}, "with a level of Python's logging"),
        ({"loggers": 5}, "`loggers` is 5; use {console: "),
        ({"ops": None, "resources": None, "ops_": None}, "ops_ is no part"),
        ({"ops": {"raw_corpus": None, "top2": None}}, "top2 is no asset"),
        ({"ops": {"raw_corpus": {"config": None}, "top2": None}}, "top2 is no asset"),
        ({"resources": {"workspace": {"config": None}, "mlflow": None, "mlfow": None}}, "mlfow is no resource"),
        ({"ops": 5}, "`ops` is 5; use a mapping of names."),
        ({"resources": ["workspace"]}, "`resources` is ['workspace']; use a mapping of names."),
        ({"ops": {"raw_corpus": {"config": "x"}}}, "raw_corpus: its configuration is 'x'; give one `name: value` a"),
        ({"ops": {"raw_corpus": {"config": {5: 1}}}}, "raw_corpus has no setting 5."),
        ({"resources": {"workspace": 5}}, "workspace: put its settings below `config:`."),
    ],
)  # fmt: skip
def test_every_level_of_a_run_configuration_is_judged_by_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        check_values(given, {"raw_corpus"})
    # Dagster itself begins the run, which then ends in the sentence.
    for name in ("datasets", "datasets_released", "prune"):
        assert dg.validate_run_config(defs.resolve_job_def(name), given)


def test_what_dagster_reads_of_a_run_configuration_reaches_it() -> None:
    given = {"loggers": {"console": {"config": {"log_level": "debug"}}},
             "execution": {"config": {"retries": {"disabled": {}}}}}  # fmt: skip
    assert check_values(given, {"raw_corpus"})
    read = dg.validate_run_config(defs.resolve_job_def("datasets"), given)
    assert read["loggers"]["console"]["config"]["log_level"] == "debug"
    assert read["execution"]


def test_the_study_knows_what_other_jobs_make() -> None:
    assert {*OTHERS, *(name for names in OPS.values() for name in names)} == set(SETTINGS)
    assert set(RESOURCES) == set(run_config.RESOURCES)


Heavy = Literal["torch", "transformers", "datasets", "mlflow", "convokit", "matplotlib", "duckdb", "pandas"]


@pytest.mark.slow
def test_loading_the_definitions_imports_nothing_heavy() -> None:
    code = "import sys, adc_pipeline.definitions; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not set(get_args(Heavy)) & set(loaded)
