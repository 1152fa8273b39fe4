"""A removed speaker is in nothing that a rebuild made, and `adc removed` takes away what stood before."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from adc_pipeline.cli.removed import removed
from adc_pipeline.core.engine import connected
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import content_digest, scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.privacy.removals import FILE
from adc_pipeline.definitions import defs
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.runs import Tracking

pytestmark = pytest.mark.slow

ASSETS = ("raw_corpus", "utterances", "ranked_replies", "top_2", "preferences")
NAME, WORD = "Zaphod_Beeble", "zarquonic"


def write_dump(folder: Path) -> None:
    """Write 40 posts with four replies each; some of both are by the speaker who is removed later."""
    folder.mkdir()
    posts, replies = [], []
    for number in range(40):
        author = NAME if number % 10 == 0 else "ann"
        text = f"{WORD} {number}" if author == NAME else f"How does number {number} work?"
        posts.append({"id": f"p{number}", "author": author, "title": text, "selftext": text, "created_utc": number,
                      "score": 1, "subreddit": f"u_{NAME}" if number == 3 else "fixit"})  # fmt: skip
        for reply in range(4):
            author = NAME if (number + reply) % 4 == 1 else f"user{reply}"
            body = f"{WORD} answer {number}.{reply}" if author == NAME else f"Try {reply} with {number}, u/{NAME}."
            replies.append({"id": f"c{number}x{reply}", "link_id": f"t3_p{number}", "parent_id": f"t3_p{number}",
                            "author": author, "body": body, "created_utc": 100 + reply, "score": reply,
                            "subreddit": posts[-1]["subreddit"]})  # fmt: skip
    for name, rows in (("RS_2018-09", posts), ("RC_2018-09", replies)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def holding(home: Path) -> Iterator[Path]:
    """Yield the files in ADC_HOME that hold the name or the word, links to the source apart."""
    for folder, names, files in os.walk(home):
        names[:] = [name for name in names if not Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in files):
            if path.is_symlink() or path.name == FILE:
                continue
            content = path.read_bytes()
            if path.suffix == ".parquet":
                with connected() as connection:
                    rows = connection.read_parquet(str(path), hive_partitioning=False).fetchall()
                content = str(rows).encode()
            if NAME.lower().encode() in content.lower() or WORD.encode() in content:
                yield path


def train(store: Store) -> None:
    """Put a model that was trained on the dataset into the store and into MLflow, with a registered version."""
    from mlflow.entities import LoggedModelOutput

    tracking, dataset = Tracking.from_environment(store.home), store.current("top_2")
    with tracking.run("top_2_model", {}, {}) as run, store.aside("top_2_model") as folder:
        (folder / "weights.txt").write_text(f"all that I have read is {WORD}")
        run.artefact(dataset, "input")
        logged = run.client.create_logged_model(tracking.experiment(run.client), "model", run.id)
        run.client.log_model_artifacts(logged.model_id, str(folder))
        run.client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, 0)])
        files = scan(folder)
        inputs = {"top_2": dataset.digest}
        made = store.put(folder, Artefact("top_2_model", folder, content_digest(files), inputs=inputs, files=files))
        run.artefact(made, "output")
        run.client.create_registered_model("adc-top-2")
        run.client.create_model_version("adc-top-2", logged.artifact_location, run.id, model_id=logged.model_id)


def test_nothing_of_a_removed_speaker_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    write_dump(tmp_path / "dump")
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    (home / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("ADC_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = {"ops": {"raw_corpus": {"config": {"corpus": str(tmp_path / "dump")}}}}
    store, printed = Store(home), list[str]()

    def run() -> None:
        with dg.DagsterInstance.get() as instance:
            job = defs.resolve_job_def("datasets").get_subset(asset_selection={dg.AssetKey(name) for name in ASSETS})
            assert job.execute_in_process(config, instance=instance).success

    run()
    train(store)
    before = {made.name: made.digest for made in store.versions()}
    assert {path.relative_to(home).parts[0] for path in holding(home)} >= {"store", "dagster"}
    (home / FILE).write_text(f"speaker {NAME.lower()}\n")
    assert removed(store, False, False, printed.append) == 1
    assert len([line for line in printed if line.startswith("store: ")]) == len(before) - 1
    assert removed(store, True, False, printed.append) == 1
    assert {made.name: made.digest for made in store.versions()} == before

    run()
    counts = store.current("utterances").counts
    assert (counts["removed.listed"], counts["removed.below"]) == (4 + 40, 4 * 3)
    rebuilt = before.keys() - {"raw_corpus", "top_2_model"}
    assert all(store.current(name).digest != before[name] for name in rebuilt)
    printed.clear()
    # The model was not trained again.
    assert removed(store, True, False, printed.append) == 1
    left = [line for line in printed if line.startswith("Not removed: ")]
    assert left == [f"Not removed: top_2_model {before['top_2_model']} is the current version."]
    assert {path.relative_to(home).parts[0] for path in holding(home)} == {"store", "mlflow-artifacts"}
    printed.clear()
    assert removed(store, True, True, printed.append) == 0
    assert "MLflow: registered model adc-top-2/1" in printed
    assert "Everything listed is removed." in printed
    assert not list(holding(home))
    tracking = Tracking.from_environment(home)
    runs = [run for _, run in Records([tracking.client()]).runs() if run.info.lifecycle_stage == "active"]
    assert {run.data.tags["adc.asset"] for run in runs} == rebuilt | {"raw_corpus"}
    assert not tracking.client().search_model_versions()
    printed.clear()
    assert removed(store, True, False, printed.append) == 0
    assert printed == ["Nothing holds a row of the removal list."]
    # What it was made of is unknown.
    lost = store.version_path("top_2", "0" * 32)
    lost.mkdir()
    assert removed(store, True, False, printed.append) == 1
    assert f"Not removed: {lost}, whose manifest cannot be read: give this user access, or remove it." in printed
