"""Metrics reach MLflow in spite of faults of the file or the server."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adc_pipeline.tracking.relay import relayed
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.system import system_metrics


@pytest.fixture(scope="module")
def tracking(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    folder: Path = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder / "mlflow.db")
    return Tracking(f"sqlite:///{folder / 'mlflow.db'}", folder.as_uri())


@pytest.fixture
def run(tracking: Tracking) -> Iterator[Run]:
    with tracking.run("top_2_model", {"learning_rate": 1e-3}, {}) as run:
        yield run


def line(step: int, loss: float) -> str:
    return json.dumps({"step": step, "loss": loss}) + "\n"


def losses(run: Run) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in run.client.get_metric_history(run.id, "loss")]


@pytest.mark.slow
def test_existing_and_new_lines_are_sent_once(run: Run, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(line(10, 3.0))
    with relayed(metrics, run), metrics.open("a") as file:
        file.write(line(20, 2.0))
    assert losses(run) == [(10, 3.0), (20, 2.0)]


def test_an_unfinished_line_is_not_sent_yet(run: Run, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(line(10, 3.0) + '{"step": 20, "lo')
    with relayed(metrics, run):
        pass
    assert losses(run) == [(10, 3.0)]


def test_a_training_that_never_wrote_a_line_is_no_error(run: Run, tmp_path: Path) -> None:
    with relayed(tmp_path / "metrics.jsonl", run):
        pass
    assert losses(run) == []


def test_system_metrics_are_recorded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with system_metrics(run):
        while "system/cpu_utilization_percentage" not in (known := run.client.get_run(run.id).data.metrics):
            time.sleep(0.1)
    assert known["system/system_memory_usage_megabytes"] > 0


def test_a_failed_run_is_marked_as_failed_and_keeps_its_settings(tracking: Tracking) -> None:
    with pytest.raises(RuntimeError), tracking.run("top_2", {"seed": 1, "ranking": {"order": "score"}}, {}) as run:
        raise RuntimeError
    recorded = run.client.get_run(run.id)
    assert recorded.info.status == "FAILED"
    assert recorded.data.params == {"seed": "1", "ranking.order": "score"}
