"""A failed run shows its sentence on the terminal and in Dagster's log, and what is in place stays in sight."""

import errno
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._utils.error import serializable_error_info_from_exc_info

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.definitions import defs
from adc_pipeline.defs.failures import reason
from adc_pipeline.defs.sentence_failure import Cancelled, SentenceFailure, ends_as_sentence

TABLE = """id,conversation_id,reply_to,speaker,body,score,timestamp
r,r,,ann,post,1,0
a,r,r,bob,yes,2,1
b,r,r,cy,no,1,2
"""

# How Dagster writes a failure, also in the log of `dagster job execute`.
FAILURE = "dagster._core.definitions.events.Failure: "


@pytest.mark.slow
def test_a_failed_run_ends_in_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    table = tmp_path / "table.csv"
    table.write_text(TABLE)

    def run(column: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {"raw_corpus": {"config": {"corpus": str(table), "columns": {"text": column}}}}}
        return defs.resolve_job_def("datasets").execute_in_process(config, instance=instance, raise_on_error=False)

    with dg.DagsterInstance.ephemeral() as instance:
        made = run("body")
        assert made.success
        digest = Store(tmp_path / "home").current("raw_corpus").digest
        printed = capsys.readouterr().err
        assert "raw_corpus is made" in printed
        assert "DEBUG" not in printed

        failed = run("body_")
        printed = capsys.readouterr().err
        sentence = "has no column body_ (did you mean body?) but id"
        assert sentence in printed.splitlines()[-1]
        assert "Failure: " in printed
        assert "Stack Trace" not in printed
        assert "Not executing" not in printed
        assert f"raw_corpus stays as before this run: version {digest}" in printed

        logged = instance.all_logs(failed.run_id)
        errors = [entry for entry in logged if int(entry.level) >= 40]
        assert [entry.dagster_event.event_type_value for entry in errors if entry.dagster_event] == [
            "STEP_FAILURE",
            "PIPELINE_FAILURE",
        ]
        assert len(errors) == 2
        data = errors[0].dagster_event.step_failure_data  # type: ignore[union-attr]
        assert data.error is not None
        assert data.error.to_string().strip() == f"{FAILURE}{data.user_failure_data.description}"  # type: ignore[union-attr]
        assert data.user_failure_data is not None
        assert digest in str(data.user_failure_data.metadata["in place"].value)
        raised_at = str(data.user_failure_data.metadata["raised at"].value)
        assert "Traceback" in raised_at
        # Dagster's page shows Markdown of this length behind a click.
        assert len(raised_at) >= 1000

        # Dagster's graph shows an asset as failed whose newest planned run has failed.
        for name, newest in (("raw_corpus", failed), ("utterances", made), ("top_2", made), ("preferences", made)):
            planned = instance.get_latest_planned_materialization_info(dg.AssetKey(name))
            assert planned is not None
            assert planned.run_id == newest.run_id, name
        # And one with a check that was planned and has no result.
        for asset, check in (("utterances", "nothing_lost"), ("top_2", "marker_grammar"), ("top_2", "volume")):
            key = dg.AssetCheckKey(dg.AssetKey(asset), check)
            (last, before) = instance.event_log_storage.get_asset_check_execution_history(key, limit=2)
            assert (last.run_id, before.run_id) == (failed.run_id, made.run_id)
            assert last.status == before.status
            assert last.evaluation == before.evaluation


@pytest.mark.parametrize("error", [Cancelled(), SentenceFailure("The sentence.", {})])
def test_what_a_sentence_explains_is_recorded_without_a_stack_trace(error: BaseException) -> None:
    try:
        raise error from ValueError("the cause")
    except BaseException:
        recorded = serializable_error_info_from_exc_info(sys.exc_info())
    assert recorded.to_string() in ("Cancelled by a signal.", f"{FAILURE}The sentence.")
    assert isinstance(error, dg.Failure | DagsterExecutionInterruptedError)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (KeyboardInterrupt(), "Cancelled by a signal."),
        (DagsterExecutionInterruptedError(), "Cancelled by a signal."),
        (PipelineError("The sentence."), f"{FAILURE}The sentence."),
        (OSError(errno.ENOSPC, "No space left on device"), f"{FAILURE}The disk of ADC_HOME = /home is full"),
    ],
)
def test_an_op_that_makes_no_asset_ends_without_a_stack_trace(error: BaseException, shown: str) -> None:
    workspace: Any = SimpleNamespace(store=SimpleNamespace(home="/home"))
    try:
        with ends_as_sentence(workspace):
            raise error
    except BaseException:
        recorded = serializable_error_info_from_exc_info(sys.exc_info())
    assert recorded.to_string().startswith(shown)
    assert recorded.stack == []


def test_an_event_that_dagsters_database_does_not_take_is_told_in_a_sentence() -> None:
    """Dagster stores events between the parts of a step, where no code of a stage can explain its error."""
    try:
        raise sqlite3.OperationalError("disk I/O error")
    except sqlite3.Error:
        error = serializable_error_info_from_exc_info(sys.exc_info())
    event: Any = SimpleNamespace(
        is_step_failure=True, step_failure_data=SimpleNamespace(user_failure_data=None, error=error)
    )
    assert reason(event).startswith("A database of Dagster cannot be used (disk I/O error): check the disk and ")
