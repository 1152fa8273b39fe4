"""Network faults are retried a few times with increasing delays; other errors are not."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import pytest

from adc_pipeline.core.errors import PipelineError, UnreachableError
from adc_pipeline.definitions import defs
from adc_pipeline.defs import frame
from adc_pipeline.defs.assets import corpus as assets

pytestmark = pytest.mark.slow

Attempts = Callable[[list[Exception]], tuple[dg.ExecuteInProcessResult, int]]


@pytest.fixture
def attempts(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Runs `raw_corpus` while its download fails with these errors, one an attempt; gives how often it was tried."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    monkeypatch.setenv("ADC_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(frame, "SECONDS_BEFORE_RETRY", (0, 0, 0))
    download_all = assets.download_all

    def run(errors: list[Exception]) -> tuple[dg.ExecuteInProcessResult, int]:
        tried = 0

        def failing(*given: object) -> Mapping[str, Path]:
            nonlocal tried
            tried += 1
            if tried <= len(errors):
                raise errors[tried - 1]
            return download_all(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(assets, "download_all", failing)
        config = {"ops": {"raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 20}}}}
        job = defs.resolve_job_def("datasets")
        with dg.DagsterInstance.ephemeral() as instance:
            found = job.execute_in_process(
                config, instance=instance, raise_on_error=False, asset_selection=[dg.AssetKey("raw_corpus")]
            )
        return found, tried

    return run


def sentence(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return error.message


def test_a_network_fault_is_retried(attempts: Attempts) -> None:
    result, tried = attempts([UnreachableError("No network.")] * 3)
    assert result.success
    assert tried == 4
    assert len(result.get_asset_materialization_events()) == 1


def test_a_lasting_network_fault_ends_the_run_with_its_message(attempts: Attempts) -> None:
    result, tried = attempts([UnreachableError("No network.")] * 9)
    assert tried == 4
    assert sentence(result).strip().endswith("No network.")


@pytest.mark.parametrize("error", [PipelineError("No such corpus."), KeyError("a fault of ours")])
def test_other_errors_are_not_retried(attempts: Attempts, error: Exception) -> None:
    result, tried = attempts([error])
    assert not result.success
    assert tried == 1
