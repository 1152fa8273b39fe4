"""What MLflow shows of a run: parent, description, schema; names by a setting; copies that are links."""

import json
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking.artifacts import local_path
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.settings import MlflowSettings
from adc_pipeline.tracking.tags import GROUP
from adc_pipeline_tests.tracking.history import History, history

__all__ = ["history"]


@pytest.mark.slow
def test_an_experiment_has_a_name_by_setting_a_description_and_opens_as_model_training(history: History) -> None:
    tracking = Tracking(history.tracking.uri, history.tracking.artifacts, names=MlflowSettings("my team", "mine"))
    client = tracking.client()
    tracking.experiment(client)
    found = client.get_experiment_by_name("my team")
    assert found is not None
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "comparison" in found.tags["mlflow.note.content"]
    assert tracking.model_name("top-2") == "mine-top-2"
    # A person's own description stays.
    client.set_experiment_tag(found.experiment_id, "mlflow.note.content", "ours")
    tracking.experiment(client)
    assert client.get_experiment(found.experiment_id).tags["mlflow.note.content"] == "ours"


@pytest.mark.parametrize(
    "names", [{"experiment": ""}, {"experiment": "a\nb"}, {"model_prefix": "a/b"}, {"model_prefix": "a.b"}]
)
def test_names_that_mlflow_refuses_are_refused_before(names: dict[str, str]) -> None:
    with pytest.raises(PipelineError, match=next(iter(names))):
        MlflowSettings(**names)


def test_a_group_has_one_parent_which_keeps_a_failure_unless_it_is_a_study(history: History) -> None:
    tracking = history.tracking
    for group, kept in (("run 1", "FAILED"), ("study 1", "FINISHED")):
        parent = tracking.parent("a job", group, {"mlflow.user": "ann"})
        assert tracking.parent("a job", group, {}) == parent
        with pytest.raises(ZeroDivisionError), tracking.run("top_2", {}, {}, parent):
            raise ZeroDivisionError
        with tracking.run("random_walk", {}, {}, parent) as run:
            pass
        found = history.client.get_run(parent)
        assert (found.info.status, found.data.tags[GROUP]) == (kept, group)
        assert history.client.get_run(run.id).data.tags["mlflow.parentRunId"] == parent
        # The parent lasts as long as its children.
        assert found.info.end_time >= history.client.get_run(run.id).info.end_time


def test_a_job_that_ends_outside_of_its_steps_runs_says_so(history: History) -> None:
    """Cancelled while a step waits, or failed by a sentence before it: MLflow has no run that could tell."""
    tracking = history.tracking
    tracking.end_group("nothing made", "KILLED")
    for group, first, later in (("waits", "KILLED", "FAILED"), ("refused", "FAILED", "KILLED")):
        parent = tracking.parent("a job", group, {})
        tracking.end_group(group, first)
        assert history.client.get_run(parent).info.status == first
        tracking.end_group(group, later)
        assert history.client.get_run(parent).info.status == first


def test_a_killed_process_ends_the_parent_too(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = history.tracking
    parent = tracking.parent("a job", "killed", {})
    tags = {"mlflow.parentRunId": parent, "adc.asset": "top_2", "adc.process": "4194305 somewhere"}
    left = history.client.create_run(tracking.experiment(history.client), run_name="top_2", tags=tags)
    monkeypatch.setattr("adc_pipeline.tracking.parents.has_ended", lambda process: process == tags["adc.process"])
    with tracking.run("top_2", {}, {}):
        pass
    assert history.client.get_run(left.info.run_id).info.status == "KILLED"
    assert history.client.get_run(parent).info.status == "KILLED"


def test_a_dataset_has_its_schema(history: History) -> None:
    made = Artefact("top_2", Path("somewhere").absolute(), "ab" * 16)
    with history.tracking.run("top_2_model", {}, {}) as run:
        run.artefact(made, "input", {"text": "string", "walk": "int64"})
    inputs = history.client.get_run(run.id).inputs
    assert inputs is not None
    columns = json.loads(inputs.dataset_inputs[0].dataset.schema or "")["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [("text", "string"), ("walk", "int64")]


def test_facts_are_parameters_and_are_restored_as_such(history: History) -> None:
    with history.tracking.run("top_2_model", {"seed": 1}, {}) as run:
        run.describe({"parameters": 579_200})
        run.metrics({"loss": 0.5})
    found = history.client.get_run(run.id).data
    assert found.params == {"seed": "1", "parameters": "579200"}
    assert "parameters" not in found.metrics
    assert run.described == {"parameters": 579_200}


def test_mlflows_copy_of_a_file_is_a_link_where_both_are_on_one_disk(history: History, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a report")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("a note")
    with history.tracking.run("top_2_evaluation", {}, {}) as run:
        run.file(tmp_path / "report.html")
        run.file(tmp_path / "folder")
    for name in ("report.html", "folder/note.txt"):
        folder = local_path(history.client.get_run(run.id).info.artifact_uri)
        assert (folder / name).samefile(tmp_path / name)
    # Removing the original leaves MLflow's.
    (tmp_path / "report.html").unlink()
    assert Path(history.client.download_artifacts(run.id, "report.html")).read_text() == "a report"


def test_a_run_is_killed_that_an_interrupt_hits_while_mlflow_creates_it(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow has the run then, and the parent of the job would count as finished."""
    client = history.tracking.client()
    parent = history.tracking.parent("adc", "a job", {})
    create = type(client).create_run

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        create(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(client), "create_run", interrupted)
    with pytest.raises(KeyboardInterrupt), history.tracking.run("top_2", {}, {}, parent):
        pass
    (made,) = client.search_runs([history.tracking.experiment(client)], "attributes.run_name = 'top_2'")
    assert made.info.status == client.get_run(parent).info.status == "KILLED"
