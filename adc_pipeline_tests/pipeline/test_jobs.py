"""The jobs themselves, through Dagster, with a real MLflow store and really trained models."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.core.artefacts import Store, folder_digest
from adc_pipeline.core.shards import shards_of
from adc_pipeline.definitions import defs
from adc_pipeline.tracking.lineage import Node, model_lineage
from adc_pipeline.tracking.runs import DIGEST, Tracking

SHORT: dict[str, Any] = {"max_steps": 30, "sequence_length": 256, "tokens_per_step": 2048, "log_every": 5}
ADC: dict[str, Any] = {
    "ops": {
        "raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 400}},
        "base_model": {"config": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 512}},
        "top_2_model": {"config": SHORT},
        "random_walk_model": {"config": SHORT},
        "top_2_evaluation": {"config": {"draws": 200, "samples": 2}},
        "random_walk_evaluation": {"config": {"draws": 200, "samples": 2}},
    }
}
MADE = [key.to_user_string() for key in defs.resolve_job_def("adc").asset_layer.selected_asset_keys]
MODELS = {"top_2_model": "adc-top-2", "random_walk_model": "adc-random-walk"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADC_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("ADC_CORPUS", raising=False)
        yield home


@pytest.fixture(scope="module")
def run(home: Path) -> dg.ExecuteInProcessResult:
    """The job `adc`, once for all tests of this file."""
    (home / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(home / "dagster"))
    return defs.resolve_job_def("adc").execute_in_process(run_config=ADC, instance=instance)


def execute(job: str, config: dict[str, Any], tmp_path: Path) -> dg.ExecuteInProcessResult:
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    return defs.resolve_job_def(job).execute_in_process(run_config=config, instance=instance, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    """The step that failed, the only one, and its sentence."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return str(event.step_key), error.message


def test_every_asset_is_in_its_place_under_the_digest_of_its_content(
    run: dg.ExecuteInProcessResult, home: Path
) -> None:
    assert run.success
    store = Store(home)
    for name in MADE:
        made = store.current(name)
        assert made.path.name == made.digest
        if name != "raw_corpus":
            assert folder_digest(made.path) == made.digest
    assert not list(home.glob("store/*/.making-*"))


def test_every_check_passed(run: dg.ExecuteInProcessResult) -> None:
    checks = {(str(check.asset_key.to_user_string()), check.check_name) for check in run.get_asset_check_evaluations()}
    assert len(checks) == 8
    assert all(check.passed for check in run.get_asset_check_evaluations())


def test_materializations_show_what_a_person_wants_to_see(run: dg.ExecuteInProcessResult, home: Path) -> None:
    for event in run.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        made = Store(home).current(materialization.asset_key.to_user_string())
        assert materialization.metadata["digest"].value == made.digest
        run_id, address = (materialization.metadata[name].value for name in ("mlflow_run_id", "mlflow_run"))
        assert str(address).endswith(f"/runs/{run_id}")
        assert materialization.tags is not None
        assert materialization.tags["dagster/data_version"] == made.digest


def chain(node: Node) -> set[tuple[str, str]]:
    return {(node.asset, node.digest)}.union(*(chain(above) for above in node.inputs))


@pytest.mark.parametrize("asset", MODELS)
def test_a_registered_model_leads_back_to_the_raw_corpus(
    run: dg.ExecuteInProcessResult, home: Path, asset: str
) -> None:
    client = Tracking.from_environment(home).client()
    (version,) = client.search_model_versions(f"name = '{MODELS[asset]}'")
    tree = model_lineage(client, MODELS[asset], version.version)
    store = Store(home)
    dataset = asset.removesuffix("_model")
    above = (asset, dataset, "base_model", "ranked_replies", "utterances", "raw_corpus")
    assert {(name, store.current(name).digest) for name in above} <= chain(tree)
    corpus = tree.find("raw_corpus")
    assert corpus is not None
    assert corpus.tags["dagster.run_id"] == run.run_id
    assert corpus.run is not None
    assert client.get_run(corpus.run).data.params["corpus"] == "sample"


def test_every_materialization_is_a_finished_mlflow_run_with_digests(
    run: dg.ExecuteInProcessResult, home: Path
) -> None:
    tracking = Tracking.from_environment(home)
    client = tracking.client()
    runs = {made.info.run_name: made for made in client.search_runs([tracking.experiment(client)])}
    assert set(runs) == set(MADE)
    for name, made in runs.items():
        assert made.info.status == "FINISHED"
        assert made.data.tags[DIGEST] == Store(home).current(name).digest
        assert made.data.tags["dagster.run_id"] == run.run_id
        assert made.data.tags["dagster.asset_key"] == name
        assert made.data.metrics["seconds"] > 0


def test_a_model_from_the_registry_is_the_one_that_was_trained(run: dg.ExecuteInProcessResult, home: Path) -> None:
    import mlflow
    import torch
    from transformers import AutoModelForCausalLM

    mlflow.set_tracking_uri(Tracking.from_environment(home).uri)
    registered = mlflow.transformers.load_model("models:/adc-top-2/1", return_type="components")["model"]
    trained = AutoModelForCausalLM.from_pretrained(Store(home).place("top_2_model"))
    for ours, theirs in zip(registered.parameters(), trained.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_datasets_load_as_from_the_hub(run: dg.ExecuteInProcessResult, home: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    for name in ("top_2", "random_walk"):
        loaded = load_dataset(str(Store(home).place(name)), cache_dir=str(tmp_path))
        assert list(loaded) == ["train", "validation", "test"]
        counts = Store(home).current(name).counts
        assert {f"walks.{split}": len(rows) for split, rows in loaded.items()}.items() <= counts.items()


def test_the_datasets_job_imports_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, dagster as dg\n"
        "from adc_pipeline.definitions import defs\n"
        "config = {'ops': {'raw_corpus': {'config': {'corpus': 'sample', 'sample_conversations': 300}}}}\n"
        "assert defs.resolve_job_def('datasets').execute_in_process(run_config=config).success\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"ADC_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})


def digests(home: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Those of both datasets after the job `datasets` in a home of its own."""
    home.mkdir()
    monkeypatch.setenv("ADC_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert execute("datasets", {"ops": config}, home).success
    return {name: Store(home).current(name).digest for name in ("top_2", "random_walk")}


def test_the_datasets_are_the_same_whatever_the_number_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: dict[str, Any] = {"raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 300}}}
    one = digests(tmp_path / "one", config, monkeypatch)
    three = digests(tmp_path / "three", config | {"utterances": {"config": {"shards": 3}}}, monkeypatch)
    assert one == three
    for asset in ("utterances", "ranked_replies"):
        assert len(shards_of(Store(tmp_path / "three").place(asset))) == 3
        counts = [Store(tmp_path / home).current(asset).counts for home in ("one", "three")]
        assert counts[0] == counts[1]
    # Nothing is left of what a killed run would go on with.
    assert [path for path in (tmp_path / "three" / "work").rglob("*") if path.is_file()] == []


def write_dump(folder: Path) -> None:
    """Two submissions and their comments in two files, as Pushshift names and spells them."""
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
    """The same conversations as a table with other names; an empty cell is a root's parent."""
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


def test_a_dump_and_a_table_of_the_same_conversations_give_the_same_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dump(tmp_path / "dumps")
    write_table(tmp_path / "table.csv")
    columns = {"conversation_id": "thread", "reply_to": "parent", "speaker": "who", "text": "body", "score": "ups"}
    dump = {"raw_corpus": {"config": {"corpus": str(tmp_path / "dumps")}}, "utterances": {"config": {"shards": 2}}}
    table = {"raw_corpus": {"config": {"corpus": str(tmp_path / "table.csv"), "columns": columns}}}
    from_dump = digests(tmp_path / "from dump", dump, monkeypatch)
    from_table = digests(tmp_path / "from table", table, monkeypatch)
    counts = [Store(tmp_path / home).current("utterances").counts for home in ("from dump", "from table")]
    assert counts[0] == counts[1]
    assert {"read": 8, "taking_part": 8, "roots": 2}.items() <= counts[0].items()
    assert from_dump == from_table
    assert Store(tmp_path / "from dump").current("top_2").counts["walks"] == 2


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"raw_corpus": {"config": {"corpus": "/nowhere"}}}, "The corpus /nowhere does not exist"),
        ({"random_walk_model": {"config": {"epochs": 0.0}}}, "`epochs` of the training is 0"),
        ({"top_2": {"config": {"shares": [90, 5, 4]}}}, "add up to 100"),
        ({"base_model": {"config": {"name": "./no-such-model"}}}, "base model's `name` './no-such-model'"),
        ({"base_model": {"config": {"name": "nobody/no-such-model"}}}, "base model's `name` 'nobody/no-such-model'"),
    ],
)
def test_a_wrong_setting_ends_the_run_at_its_first_step(
    config: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    step, message = failure(execute("adc", {"ops": config}, tmp_path))
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
    result = execute("datasets", {}, tmp_path)
    step, message = failure(result)
    assert step == "raw_corpus"
    assert "MLflow does not answer at MLFLOW_TRACKING_URI = http://127.0.0.1:9" in message
    assert "secret" not in str(result.all_events)


def test_a_home_that_is_not_writable_ends_the_run_at_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "file"))
    step, message = failure(execute("datasets", {}, tmp_path))
    assert step == "raw_corpus"
    assert "cannot be written to" in message
