"""A cell and the result through Dagster and MLflow, and what the command refuses. 40 s of one core."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.definitions import defs
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.study.cells import is_made, walks_of
from adc_pipeline.study.configuration import read_config, settings_of_cells
from adc_pipeline.study.grid import VARIANTS, cell_name
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.walks.kinds import KINDS

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {
    "study_inputs": {
        "raw_corpus": {"corpus": "sample", "sample_conversations": 200},
        "base_model": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 400},
    },
    "study": {"study_cell": {"max_steps": 5, "sequence_length": 128, "tokens_per_step": 512}},
    "study_result": {"study_table": {}},
}
VARIANT = "both.mle.shuffled"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADC_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield home


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    """The jobs of the study, with one cell of it."""
    (home / "dagster").mkdir()
    for job in CONFIG:
        assert run_job(home, job).success
    return home


def run_job(home: Path, job: str) -> dg.ExecuteInProcessResult:
    ops = {"ops": {name: {"config": config} for name, config in CONFIG[job].items()}}
    key = f"2|{VARIANT}" if job == "study" else None
    instance = dg.DagsterInstance.local_temp(str(home / "dagster"))
    return defs.resolve_job_def(job).execute_in_process(ops, instance=instance, partition_key=key)


def test_a_cell_keeps_its_evidence_and_not_its_weights(made: Path) -> None:
    cell = Store(made).current(cell_name(VARIANT, "2"))
    assert not list(cell.path.rglob("*.safetensors"))
    varied = {name: cell.settings[name] for name in ("objective", "markers", "verdicts", "seed", "max_steps")}
    assert varied == {"objective": "mle", "markers": "kept", "verdicts": "shuffled", "seed": 2, "max_steps": 5}
    evaluation = Evaluation.read(cell.path / "evaluation")
    assert evaluation.model["steering"].cases > 0
    page = (cell.path / "evaluation" / "report.html").read_text()
    assert "<title>Evaluation of both</title>" in page
    assert Store(made).current("raw_corpus").digest in page
    assert not (made / "work" / cell_name(VARIANT, "2")).exists()


def test_a_cell_is_a_run_that_mlflow_can_compare(made: Path) -> None:
    client = Tracking.from_environment(made).client()
    experiment = Tracking.from_environment(made).experiment(client)
    (run,) = client.search_runs([experiment], f"tags.`adc.asset` = '{cell_name(VARIANT, '2')}'")
    told = {name: run.data.params[name] for name in ("dataset", "objective", "verdicts", "seed", "base_model")}
    assert told == {"dataset": "both", "objective": "mle", "verdicts": "shuffled", "seed": "2", "base_model": "small"}
    assert {"steering", "preference_accuracy", "loss"} <= set(run.data.metrics)
    assert run.inputs is not None
    read = {(entry.dataset.name, entry.tags[0].value) for entry in run.inputs.dataset_inputs}
    assert {("top_2", "input"), ("random_walk", "input"), ("base_model", "input")} <= read


def test_a_made_cell_is_left_out_until_its_code_or_its_settings_change(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, common = Store(made), CellSettings(**CONFIG["study"]["study_cell"])
    own = VARIANTS[VARIANT].settings(common, 2)
    assert is_made(store, VARIANT, own)
    assert not is_made(store, VARIANT, replace(own, learning_rate=1e-5))
    assert not is_made(store, VARIANT, replace(own, seed=1))
    assert not is_made(store, "top-2.mle", own)
    monkeypatch.setattr("adc_pipeline.study.cells.CODE_VERSION", "another")
    assert not is_made(store, VARIANT, own)


def test_a_made_cell_and_its_result_are_taken_over(made: Path, home: Path) -> None:
    before = Store(made).current(cell_name(VARIANT, "2"))
    # The page of a reused artefact names the run that shows its pictures.
    cell, result = {"steps", "report", "pictures_in_run"}, {"result", "pictures_in_run"}
    for job, shown in (("study", cell), ("study_result", result)):
        (event,) = run_job(home, job).get_asset_materialization_events()
        assert event.materialization.metadata["unchanged"].value is True
        # What people look at stays on the asset's page.
        assert shown <= event.materialization.metadata.keys()
    page = (Store(made).current("study_table").path / "report.html").read_text()
    for name in ("raw_corpus", "top_2", "base_model"):
        assert Store(made).current(name).digest in page
    assert "every cell: max_steps" in page
    assert "<td>seeds</td><td>2</td>" in page
    assert "version of torch" in page
    assert Store(made).made_at(Store(made).current(before.name)) == Store(made).made_at(before)


def test_the_result_is_of_the_cells_that_were_made(made: Path) -> None:
    result = Store(made).current("study_table")
    assert result.counts == {"cells": 1, "cells.missing": 185, "cells.left_out": 0}
    assert set(result.inputs) == {cell_name(VARIANT, "2")}
    assert VARIANT in (result.path / "study.md").read_text()


def test_both_datasets_are_learned_from_together(made: Path, tmp_path: Path) -> None:
    store = Store(made)
    datasets = {kind.name: store.current(kind.dataset).path for kind in KINDS.values()}
    paths = [datasets["top-2"], datasets["random-walk"]]
    both = walks_of(VARIANTS["both.mle"], datasets, tmp_path / "both")
    for split in ("train", "validation"):
        apart = [walk["text"] for path in paths for walk in read_walks(path, split)]
        assert sorted(walk["text"] for walk in read_walks(both, split)) == sorted(apart)
    assert walks_of(VARIANTS["top-2.mle"], datasets, tmp_path / "one") == paths[0]


def test_a_run_configuration_serves_other_jobs_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    assert read_config(None) == {}
    file.write_text(yaml.safe_dump({"ops": {"top_2_model": {"config": {}}}}))
    assert read_config(file) == {"ops": {"top_2_model": {"config": {}}}}
    assert "also sets top_2_model, which the study does not make" in capsys.readouterr().out
    file.write_text(yaml.safe_dump({"ops": {"study_cel": {"config": {}}}}))
    with pytest.raises(PipelineError, match=r"study_cel is no asset \(did you mean study_cell\?\)"):
        read_config(file)
    for broken in ("a: [", "- a", "ops: 3", "resources: 3"):
        file.write_text(broken)
        with pytest.raises(PipelineError, match=r"cannot be read|not a mapping|use a mapping"):
            read_config(file)
    with pytest.raises(PipelineError, match="does not exist"):
        read_config(tmp_path / "missing.yaml")


def test_settings_of_the_cells_that_are_none_are_refused() -> None:
    def said(config: Any) -> CellSettings:
        return settings_of_cells({"ops": {"study_cell": {"config": config}}})

    assert settings_of_cells({}) == CellSettings()
    assert said({"epochs": 3.0}).epochs == 3.0
    for wrong in ({"epochz": 3.0}, [1], {"learning_rate": "fast"}):
        with pytest.raises(PipelineError):
            said(wrong)
