"""A run that a command starts belongs to the code location that Dagster's pages know. 4 s."""

import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

from adc_pipeline.cli.dev import LOCATION as SERVED
from adc_pipeline.definitions import defs
from adc_pipeline.defs.origin import LOCATION, REPOSITORY, is_forgotten, mark_as_run_of_this_location

ROOT = Path(__file__).parents[2]


@dg.op
def begin(context: dg.OpExecutionContext) -> None:
    mark_as_run_of_this_location(context.instance, context.run_id)
    # Its own process once more, and a run of the pages that has an origin already.
    mark_as_run_of_this_location(context.instance, context.run_id)


@dg.job(tags={"kept": "yes"})
def marked() -> None:
    begin()


@pytest.mark.slow
def test_a_marked_run_is_found_as_the_pages_look_for_it(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        done = marked.execute_in_process(instance=instance)
        assert done.success
        label = {".dagster/repository": f"{REPOSITORY}@{LOCATION}"}
        (run,) = instance.get_runs(dg.RunsFilter(job_name="marked", tags=label))
        assert run.run_id == done.run_id
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.tags["kept"] == "yes"
        origin = run.remote_job_origin
        assert origin is not None
        assert (origin.location_name, origin.repository_origin.repository_name) == (LOCATION, REPOSITORY)
        assert origin.job_name == "marked"
        mark_as_run_of_this_location(instance, "a run that is not there")


@pytest.mark.slow
def test_a_run_without_a_home_or_a_dagster_yaml_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for forgotten in (True, False):
        # What every command of Dagster opens.
        with get_possibly_temporary_instance_for_cli() as instance:
            assert is_forgotten(instance) == forgotten
        (tmp_path / "dagster.yaml").write_text("storage: {sqlite: {base_dir: history}}\n")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert not is_forgotten(instance)


def test_the_location_has_one_name_wherever_it_is_served() -> None:
    (laptop,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    (deployment,) = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())["load_from"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    names = {
        SERVED,
        laptop["python_module"],
        deployment["grpc_server"]["location_name"],
        project["code_location_target_module"],
        project["code_location_name"],
    }
    assert names == {LOCATION}
    assert defs.get_repository_def().name == REPOSITORY
