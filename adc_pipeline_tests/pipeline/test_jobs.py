"""The job `adc` through Dagster, with a real MLflow store and really trained models."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.core.markdown import escape
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import damage, folder_digest
from adc_pipeline.definitions import defs
from adc_pipeline.defs.page import BREAK
from adc_pipeline.evaluation.headlines import FIRST, HEADLINES
from adc_pipeline.tracking.artifacts import local_path
from adc_pipeline.tracking.lineage import model_lineage
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import DIGEST
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline_tests.drills.bit_flips import flip_every_file

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {"max_steps": 30, "sequence_length": 256, "tokens_per_step": 2048, "log_every": 5}
ADC: dict[str, Any] = {
    "ops": {
        "raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 250}},
        "base_model": {"config": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 512}},
        "judge": {"config": {"draws": 200}},
        **{kind.model: {"config": SHORT} for kind in KINDS.values()},
        **{kind.evaluation: {"config": {"draws": 200, "samples": 2, "contexts": 8}} for kind in KINDS.values()},
    }
}
MADE = [key.to_user_string() for key in defs.resolve_job_def("adc").asset_layer.selected_asset_keys]
MODELS = {kind.model: kind.registered for kind in KINDS.values()}


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
    """Run the job `adc` once for all tests of this file."""
    (home / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(home / "dagster"))
    return defs.resolve_job_def("adc").execute_in_process(run_config=ADC, instance=instance)


def test_every_current_artefact_has_the_digest_of_its_content(run: dg.ExecuteInProcessResult, home: Path) -> None:
    assert run.success
    store = Store(home)
    for name in MADE:
        made = store.current(name)
        assert made.path.name == made.digest
        if name != "raw_corpus":
            assert folder_digest(made.path) == made.digest
    assert not list(home.glob("store/*/.making-*"))


def test_small_models_are_trained_beside_one_another(run: dg.ExecuteInProcessResult, home: Path) -> None:
    began = [(home / "work" / name / "job.json").stat().st_mtime for name in MODELS]
    ended = [(Store(home).current(name).path / "training.json").stat().st_mtime for name in MODELS]
    assert max(began) < min(ended)


def test_every_check_passed(run: dg.ExecuteInProcessResult) -> None:
    checks = {(str(check.asset_key.to_user_string()), check.check_name) for check in run.get_asset_check_evaluations()}
    assert len(checks) == 6 + 5 * len(KINDS)
    assert all(check.passed for check in run.get_asset_check_evaluations() if check.blocking)


def test_materializations_show_figures_pictures_and_links(run: dg.ExecuteInProcessResult, home: Path) -> None:
    for event in run.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        made = Store(home).current(materialization.asset_key.to_user_string())
        shown = {name: str(value.value).replace(BREAK, "") for name, value in materialization.metadata.items()}
        assert shown["digest"] == made.digest
        assert shown["path"] in (escape(home / made.place), str(home / made.place))
        run_id, address = shown["mlflow_run_id"], shown["mlflow_run"]
        assert address.startswith(f"[{run_id[:8]}](")
        assert address.endswith(f"/runs/{run_id}?workflowType=machine_learning)")
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
    parent = runs.pop(f"adc {run.run_id[:8]}")
    assert parent.info.status == "FINISHED"
    assert set(runs) == set(MADE)
    for name, made in runs.items():
        assert made.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert made.data.tags["mlflow.user"]
        assert made.data.tags["mlflow.source.name"].startswith("adc_pipeline/defs/")
        assert made.info.status == "FINISHED"
        assert made.data.tags[DIGEST] == Store(home).current(name).digest
        assert made.data.tags["dagster.run_id"] == run.run_id
        assert made.data.tags["dagster.asset_key"] == name
        assert made.data.metrics["seconds"] > 0
        assert not [metric for metric in made.data.metrics if metric.endswith((".train", ".validation", ".test"))]


def test_mlflow_has_the_headline_figures_and_the_artifact_has_all(
    run: dg.ExecuteInProcessResult, home: Path, tmp_path: Path
) -> None:
    tracking = Tracking.from_environment(home)
    client = tracking.client()
    runs = {made.info.run_name: made for made in client.search_runs([tracking.experiment(client)])}
    evaluation, comparison = runs["top_2_evaluation"], runs["comparison"]
    assert set(evaluation.data.metrics) <= {*HEADLINES, "seconds"}
    assert "steering" in evaluation.data.metrics
    figures = json.loads(
        Path(client.download_artifacts(evaluation.info.run_id, "metrics.json", str(tmp_path))).read_text()
    )
    assert len(figures) > 200
    assert figures["steering"] == evaluation.data.metrics["steering"]
    # Of each pair a difference with its p-value; each model's own figures are in its evaluation.
    pairs = len(KINDS) * (len(KINDS) - 1) // 2
    assert 0 < len(comparison.data.metrics) - 1 <= len(FIRST) * 2 * pairs
    assert all("_minus_" in name for name in comparison.data.metrics if name != "seconds")
    # A fact that settings and data fix is a parameter.
    assert runs["top_2_model"].data.params["steps"] == "30"
    assert "steps" not in runs["top_2_model"].data.metrics
    # Each evaluation leads to the comparison and its verdict.
    for asset in (kind.evaluation for kind in KINDS.values()):
        assert f"/runs/{comparison.info.run_id}?" in runs[asset].data.tags["mlflow.note.content"]
    inputs = runs["top_2"].inputs
    assert inputs is not None
    schemas = {each.dataset.name: str(each.dataset.schema) for each in inputs.dataset_inputs}
    columns = [column["name"] for column in json.loads(schemas["top_2"])["mlflow_colspec"]]
    assert columns == ["text", "conversation_id", "walk", "source", "turns"]
    assert "rank" in schemas["ranked_replies"]


def test_a_version_describes_its_lineage_and_has_two_tags(run: dg.ExecuteInProcessResult, home: Path) -> None:
    client = Tracking.from_environment(home).client()
    version = client.get_model_version("adc-top-2", "1")
    assert "`champion`" in str(client.get_registered_model("adc-top-2").description)
    assert set(version.tags) == {"adc.artefact", "adc.promotion"}
    assert version.description is not None
    for name in ("top_2", "ranked_replies", "utterances", "raw_corpus", "base_model"):
        assert f"| [{name}](http://127.0.0.1:5000/#/experiments/1/runs/" in version.description
        assert f"`{Store(home).current(name).digest}`" in version.description


def test_the_weights_of_a_model_are_on_the_disk_once(run: dg.ExecuteInProcessResult, home: Path) -> None:
    import mlflow

    for asset, name in MODELS.items():
        weights = Store(home).place(asset) / "model.safetensors"
        copies = home.glob(f"mlflow-artifacts/models/*/artifacts/model/{weights.name}")
        (copy,) = [path for path in copies if path.samefile(weights)]
        assert copy.stat().st_nlink == 2
        model = mlflow.pyfunc.load_model(f"models:/{name}@latest")
        assert model.metadata.load_input_example() is not None
        assert list(model.predict(model.input_example, {"max_new_tokens": 3}).columns) == ["reply", "speaker"]
        # Not the whole package.
        assert not (copy.parents[1] / "code" / "adc_pipeline" / "corpus").exists()


def test_a_flipped_bit_in_any_file_of_a_model_or_an_evaluation_is_noticed(
    run: dg.ExecuteInProcessResult, home: Path
) -> None:
    kinds = Counter[str]()
    for name in ("base_model", "top_2_model", "top_2_evaluation", "comparison", "top_2_champion"):
        kinds += flip_every_file(Store(home).current(name), random.Random(0))
    assert not [name for name in kinds if name.startswith("missed")]
    assert {"model.safetensors", "tokenizer.json", "training.json", "evaluation.json", "report.html"} < kinds.keys()


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

    for name in (kind.dataset for kind in KINDS.values()):
        loaded = load_dataset(str(Store(home).place(name)), cache_dir=str(tmp_path))
        assert list(loaded) == ["train", "validation", "test"]
        counts = Store(home).current(name).counts
        assert {f"walks.{split}": len(rows) for split, rows in loaded.items()}.items() <= counts.items()


@pytest.mark.parametrize("how", ["version", "purged", "renamed", "files"])
def test_a_version_that_mlflow_lost_is_registered_again(run: dg.ExecuteInProcessResult, home: Path, how: str) -> None:
    """The last tests of this file, since they change its registry. The model is not trained again."""
    store, client = Store(home), Tracking.from_environment(home).client()
    before = store.current("top_2_model")
    registered = json.loads((before.path / "registered.json").read_text())
    version = str(registered["registered_version"])
    if how == "version":
        client.delete_model_version("adc-top-2", version)
    elif how == "purged":
        # As `mlflow gc` does with deleted runs; the version stays.
        made_by = str(client.get_model_version("adc-top-2", version).run_id)
        client.delete_run(made_by)
        client._tracking_client.store._hard_delete_run(made_by)
    elif how == "renamed":
        client.rename_registered_model("adc-top-2", "somebody's")
    else:
        logged = client.get_logged_model(registered["logged_model_id"])
        shutil.rmtree(local_path(logged.artifact_location))
    instance = dg.DagsterInstance.local_temp(str(home / "dagster"))
    chosen = [dg.AssetKey(name) for name in ("top_2_model", "top_2_evaluation", "top_2_champion")]
    result = defs.resolve_job_def("adc").execute_in_process(run_config=ADC, instance=instance, asset_selection=chosen)
    shown = {
        materialization.asset_key.to_user_string(): materialization.metadata
        for event in result.get_asset_materialization_events()
        for materialization in [event.step_materialization_data.materialization]
    }
    assert shown["top_2_model"]["unchanged"].value is True
    assert shown["top_2_evaluation"]["unchanged"].value is True
    after = json.loads((store.current("top_2_model").path / "registered.json").read_text())
    assert store.current("top_2_model").digest == before.digest
    assert after["logged_model_id"] != registered["logged_model_id"]
    assert shown["top_2_model"]["registered_version"].value == after["registered_version"]
    found = client.get_model_version("adc-top-2", str(after["registered_version"]))
    assert client.get_run(str(found.run_id)).info.status == "FINISHED"
    # The decision is about that version.
    assert {"adc.artefact", "adc.promotion"} <= found.tags.keys()
    assert "## Promotion" in str(found.description)
    assert client.get_logged_model(after["logged_model_id"]).metrics
    assert model_lineage(client, "adc-top-2", str(after["registered_version"])).digest == before.digest
    assert damage(store.current("top_2_model")) == []


@pytest.mark.parametrize(
    ("changed", "rebuilt", "why"),
    [
        ({"seed": 1}, ["top_2"], ""),
        ({"shares": [80, 10, 10]}, ["base_model", "judge", "top_2"], "setting shares of top_2 has changed from"),
    ],
)
def test_a_changed_dataset_makes_the_base_model_and_the_judge_stale_only_by_the_settings_that_they_follow(
    run: dg.ExecuteInProcessResult, home: Path, changed: dict[str, Any], rebuilt: list[str], why: str
) -> None:
    """At the end of this file, since it replaces a dataset."""
    chosen = [dg.AssetKey(name) for name in ("top_2", "base_model", "judge")]
    config = {"ops": {**ADC["ops"], "top_2": {"config": changed}}}
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        result = defs.resolve_job_def("adc").execute_in_process(
            run_config=config, instance=instance, asset_selection=chosen
        )
    shown = {
        materialization.asset_key.to_user_string(): materialization.metadata
        for event in result.get_asset_materialization_events()
        for materialization in [event.step_materialization_data.materialization]
    }
    assert sorted(name for name, metadata in shown.items() if not metadata["unchanged"].value) == rebuilt
    assert why in str(shown["base_model"]["reason"].value).replace("  \n", " ")
    store = Store(home)
    assert store.current("base_model").inputs == {"utterances": store.current("utterances").digest}
    # A run without the dataset follows its current version.
    alone = defs.resolve_job_def("adc").execute_in_process(
        run_config=ADC, instance=dg.DagsterInstance.ephemeral(), asset_selection=[dg.AssetKey("judge")]
    )
    (event,) = alone.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["unchanged"].value is True
