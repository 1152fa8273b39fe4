"""The job `datasets` over several sources, and runs that are refused at their first step."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.core.shards import shards_of
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.definitions import defs


def execute(job: str, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(config, instance=instance, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    """Return the name and the message of the only step that failed."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return str(event.step_key), error.message


Run = Callable[[str, dict[str, Any]], dict[str, str]]


@pytest.fixture
def digests(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the job `datasets` in an ADC_HOME of its own; return the digests of the datasets."""

    def run(name: str, config: dict[str, Any]) -> dict[str, str]:
        home = tmp_path / name
        home.mkdir()
        shutil.copy(empty_database, home / "mlflow.db")
        monkeypatch.setenv("ADC_HOME", str(home))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert execute("datasets", {"ops": config}).success
        return {name: Store(home).current(name).digest for name in ("top_2", "random_walk", "ascending", "preferences")}

    return run


def write_dump(folder: Path) -> None:
    """Write two submissions and their comments to two files, in the format of Pushshift."""
    folder.mkdir()
    submissions = [
        {"id": id, "author": "ann", "title": "Why?", "selftext": "", "created_utc": 1, "score": 1, "subreddit": "fixit"}
        for id in ("p1", "p2")
    ]
    comments = [
        {"id": f"c{number}", "link_id": f"t3_p{1 + number % 2}", "parent_id": f"t3_p{1 + number % 2}", "author": "bob",
         "body": f"reply &lt;{number}&gt;", "created_utc": str(number), "score": number, "subreddit": "fixit"}
        for number in range(6)
    ]  # fmt: skip
    for name, rows in (("RS_2018-09", submissions), ("RC_2018-09", comments)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_table(path: Path) -> None:
    """Write the same conversations as a table with other column names; a root's parent is an empty cell."""
    roots = [(id, id, "", "ann", "", 1, 1, "Why?", "fixit") for id in ("p1", "p2")]
    replies = [
        (f"c{number}", f"p{1 + number % 2}", f"p{1 + number % 2}", "bob", f"reply <{number}>", number, number, "",
         "fixit")
        for number in range(6)
    ]  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "thread", "parent", "who", "body", "timestamp", "ups", "title", "source"])
        writer.writerows([*roots, *replies])


@pytest.mark.slow
def test_a_dump_in_two_shards_and_a_table_of_the_same_conversations_give_the_same_datasets(
    digests: Run, tmp_path: Path
) -> None:
    write_dump(tmp_path / "dumps")
    write_table(tmp_path / "table.csv")
    columns = {"conversation_id": "thread", "reply_to": "parent", "speaker": "who", "text": "body", "score": "ups"}
    dump = {"raw_corpus": {"config": {"corpus": str(tmp_path / "dumps")}}, "utterances": {"config": {"shards": 2}}}
    table = {"raw_corpus": {"config": {"corpus": str(tmp_path / "table.csv"), "columns": columns}}}
    from_dump = digests("from dump", dump)
    from_table = digests("from table", table)
    for asset in ("utterances", "ranked_replies"):
        of_dump, of_table = (Store(tmp_path / home).current(asset).counts for home in ("from dump", "from table"))
        assert of_dump == of_table
        shards = [len(shards_of(Store(tmp_path / home).place(asset))) for home in ("from dump", "from table")]
        assert shards == [2, 1]
    counts = Store(tmp_path / "from dump").current("utterances").counts
    assert {"read": 8, "taking_part": 8, "roots": 2}.items() <= counts.items()
    assert from_dump == from_table, "the number of shards or the layout of the source changes the datasets"
    # No unfinished shards are left.
    assert [path for path in (tmp_path / "from dump" / "work").rglob("*") if path.is_file()] == []
    assert Store(tmp_path / "from dump").current("top_2").counts["walks"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"raw_corpus": {"config": {"corpus": "/nowhere"}}}, "The corpus /nowhere does not exist"),
        ({"random_walk_model": {"config": {"epochs": 0.0}}}, "random_walk_model: `epochs` is 0.0; use more than 0"),
        ({"top_2": {"config": {"shares": [90, 5, 4]}}}, "top_2: `shares` is [90, 5, 4]; use three"),
        ({"comparison": {"config": {"drawz": 5}}}, "comparison has no setting drawz (did you mean draws?)"),
        ({"top_2_modle": {"config": {}}}, "top_2_modle is no asset (did you mean top_2_model?)"),
        ({"top_2_evaluation": {"temperature": 1}}, "top_2_evaluation: put its settings below `config:`"),
        ({"top_2_model": {"config": {"accelerate_config": "./no.yaml"}}}, "setting accelerate_config names, does not"),
        ({"base_model": {"config": {"name": "./no-such-model"}}}, "base model's `name` './no-such-model'"),
        ({"base_model": {"config": {"name": "nobody/no-such-model"}}}, "base model's `name` 'nobody/no-such-model'"),
    ],
)
def test_a_wrong_setting_ends_the_run_at_its_first_step(
    config: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    step, message = failure(execute("adc", {"ops": config}))
    assert step == "raw_corpus"
    assert sentence in message
    assert not list((tmp_path / "home" / "store").rglob("*.json"))


def test_an_mlflow_that_does_not_answer_ends_the_run_at_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    # Restored after the test, since the pipeline sets them from the address.
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    result = execute("datasets", {})
    step, message = failure(result)
    assert step == "raw_corpus"
    assert "MLflow does not answer at MLFLOW_TRACKING_URI = http://127.0.0.1:9" in message
    assert "secret" not in str(result.all_events)


def test_a_home_that_is_not_writable_ends_the_run_at_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "file"))
    step, message = failure(execute("datasets", {}))
    assert step == "raw_corpus"
    assert "is a file and no folder: name a folder" in message
