"""Months of a corpus as partitions: a late file is read by one click; no other job asks for a month. 10 s of CPU."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.corpus import readings, sharding
from adc_pipeline.corpus.privacy.removals import FILE
from adc_pipeline.definitions import defs
from adc_pipeline.defs.asset import executable_assets
from adc_pipeline.defs.stage import STAGES
from adc_pipeline_tests.pipeline.test_datasets_job import failure, write_dump

UP_TO_ROWS = {"raw_corpus", "utterances"}


def write_month(path: Path, month: int) -> None:
    """Write comments below the posts of `write_dump`."""
    comments = [
        {"id": f"m{month}c{number}", "link_id": f"t3_p{1 + number % 2}", "parent_id": f"t3_p{1 + number % 2}",
         "author": "eve", "body": f"late {number}", "created_utc": str(100 * month + number), "score": number}
        for number in range(4)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in comments))


def test_only_the_job_of_the_months_makes_them() -> None:
    keys = {key.to_user_string() for asset in executable_assets() for key in asset.keys}
    assert "corpus_month" not in keys
    for job in ("adc", "datasets", "__ASSET_JOB"):
        assert "corpus_month" not in {node.name for node in defs.resolve_job_def(job).nodes}


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("study_cell", "", "this one names none: choose"),
        (
            "study_cell",
            "0|top-2.ml",
            r"this one names 0\|top-2\.ml, which is none \(did you mean 0\|top-2\.mle\?\): choose",
        ),
        ("study_cell", "top-2.mle|0", "which is none"),
        ("corpus_month", "2015-13", "which is none"),
    ],
)
def test_a_run_that_names_no_partition_of_the_asset_ends_with_a_sentence(name: str, key: str, said: str) -> None:
    context: Any = SimpleNamespace(has_partition_key=bool(key), partition_key=key)
    with pytest.raises(PipelineError, match=f"A run makes one partition of {name}, and .*{said}"):
        STAGES[name].artefact_name(context)


@pytest.mark.slow
def test_a_late_month_is_read_by_one_click(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, dumps = tmp_path / "home", tmp_path / "dumps"
    home.mkdir()
    (home / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("ADC_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Small files are read together.
    monkeypatch.setattr(readings, "SMALL_FILE", 0)
    write_dump(dumps)
    store, config = Store(home), {"raw_corpus": {"config": {"corpus": str(dumps)}}}

    def execute(job: str, config: dict[str, Any] | None = None, month: str | None = None) -> dg.ExecuteInProcessResult:
        selection = [dg.AssetKey(name) for name in UP_TO_ROWS] if job == "datasets" else None
        with dg.DagsterInstance.ephemeral() as instance:
            return defs.resolve_job_def(job).execute_in_process(
                {"ops": config or {}},
                instance=instance,
                partition_key=month,
                asset_selection=selection,
                raise_on_error=False,
            )

    assert execute("datasets", config).success
    write_month(dumps / "RC_2018-10.jsonl", 10)
    assert execute("read_month", month="2018-10").success
    made = store.current("corpus_month/2018-10")
    assert (made.counts["files"], made.counts["records"]) == (1, 4)
    assert made.inputs["raw_corpus"] == store.current("raw_corpus").digest

    def reads(*_: Any) -> Counts:
        raise AssertionError("a file is read again")

    with monkeypatch.context() as patch:
        patch.setattr(sharding, "read_task", reads)
        assert execute("datasets", config).success
    assert store.current("utterances").counts["read"] == 12
    step, message = failure(execute("read_month", month="2018-11"))
    assert step == "corpus_month"
    assert "has 2018-11 in its name" in message
    # Rows that a removal list changes are not kept.
    (home / FILE).write_text("utterance m10c1\n")
    assert execute("read_month", month="2018-10").success
    assert not list(store.current("corpus_month/2018-10").path.rglob("*.parquet"))
