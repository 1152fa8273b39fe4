"""A disk that fills up during a run ends it with the sentence of what needed the room, not with a trace."""

import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.cli.run import printed_to
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store


def test_a_log_that_a_full_disk_does_not_take_is_cut(tmp_path: Path) -> None:
    (tmp_path / "adc.log").symlink_to("/dev/full")
    with printed_to(tmp_path / "adc.log"):
        print("a line" * 10_000, flush=True)
        print("not yet flushed", end="")


def test_a_full_disk_under_dagsters_history_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Set first, so that what the code sets is undone afterwards.
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral)
    inner = sqlite3.OperationalError("database or disk is full")
    inner.sqlite_errorname = "SQLITE_FULL"
    with (
        pytest.raises(PipelineError, match=r"DAGSTER_HOME = .* cannot grow, since the disk is full: make room"),
        dagster_instance(Store(tmp_path)),
    ):
        raise OperationalError("INSERT", {}, inner)
