"""What has to be true of an ADC_HOME after the last run in it, whatever happened to those before it."""

import json
import os
from pathlib import Path

from adc_pipeline.core.artefacts import Store, file_digest, folder_digest
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.tracking.runs import DIGEST, Tracking

# In the order in which they are made; the same bytes from the same corpus and settings.
MADE = (
    "raw_corpus",
    "utterances",
    "ranked_replies",
    "top_2",
    "random_walk",
    "base_model",
    "top_2_model",
    "random_walk_model",
    "top_2_evaluation",
    "random_walk_evaluation",
    "comparison",
)
# These say which version of a model was decided on, and a model that is made again has a later one.
DECIDED = ("top_2_champion", "random_walk_champion")
MODELS = {"top_2_model": "adc-top-2", "random_walk_model": "adc-random-walk"}
TRACES = (
    "store/*/.making-*",
    "store/*/*/.making-*",
    ".probe-*",
    ".adc.duckdb-*",
    "corpus/.*",
    "ranking/.*",
    "datasets/.*",
    "models/.*",
    "evaluations/.*",
    "champions/.*",
    "work/*_model/**/*.partial",
)


def digests(home: Path, names: tuple[str, ...] = MADE) -> dict[str, str]:
    """Of what is in place of each asset, computed from its files; "missing" where there is nothing."""
    found = {}
    for name in names:
        place = Store(home).place(name)
        found[name] = folder_digest(place.resolve()) if place.exists() else "missing"
    return found


def damage(home: Path) -> list[str]:
    """What of that which is in place is not whole, read from the files alone."""
    store, wrong = Store(home), []
    for name in (*MADE, *DECIDED):
        if not store.place(name).exists():
            continue
        try:
            made = store.current(name)
        except (PipelineError, ValueError) as error:
            wrong.append(f"{name} cannot be read ({error})")
            continue
        # The digest of a corpus covers what its folder links to as well.
        content = made.digest if name == "raw_corpus" else folder_digest(made.path)
        if not content == made.digest == made.path.name:
            wrong.append(f"{name} has the content {content}, and says {made.digest}")
        if name in MODELS:
            json.loads((made.path / REGISTERED).read_text())
    return wrong


def left_behind(home: Path) -> list[str]:
    """What no run is writing any more and none would clear away: to be asked once the last run has ended well."""
    found = {path for pattern in TRACES for path in home.glob(pattern)}
    # A training keeps its last checkpoints, for a rerun with more steps.
    found |= {
        path for path in (home / "work").rglob("*") if path.is_file() and path.parts[len(home.parts) + 1] not in MODELS
    }
    return [f"{path.relative_to(home)} was left behind" for path in sorted(found)]


def wrong_in_registry(home: Path, tracking: str) -> list[str]:
    """Whether the newest version of each registered model is the model in place: its run, and each of its files."""
    found = []
    client = (Tracking(tracking) if tracking else Tracking(f"sqlite:///{home / 'mlflow.db'}")).client()
    for asset, name in MODELS.items():
        model = Store(home).current(asset)
        latest = max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
        noted = json.loads((model.path / REGISTERED).read_text())
        if noted["registered_version"] != int(latest.version):
            found.append(f"{asset} is version {noted['registered_version']} of {name}, and the latest {latest.version}")
        run = client.get_run(str(latest.run_id))
        if run.info.status != "FINISHED" or run.data.tags.get(DIGEST) != model.digest:
            found.append(f"version {latest.version} of {name} is {run.data.tags.get(DIGEST)}, {run.info.status}")
        found += differing_files(client.tracking_uri, noted["logged_model_id"], model.path, name)
    return found


def differing_files(tracking: str, logged_model: str, model: Path, name: str) -> list[str]:
    """The weights and the tokenizer as MLflow has them, against those in place."""
    # A bar of 149 files for each round would drown what the drill says.
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(tracking)
    served = Path(download_artifacts(f"models:/{logged_model}"))
    files = {path.name: path for path in served.rglob("*") if "code" not in path.relative_to(served).parts}
    return [
        f"{file} of {name} in MLflow is not the one in place"
        for file in ("model.safetensors", "config.json", "tokenizer.json")
        if file not in files or file_digest(files[file]) != file_digest(model / file)
    ]


def check(home: Path, expected: dict[str, str], tracking: str = "") -> list[str]:
    """What is wrong after the last run; nothing, if the drill has passed."""
    found = digests(home)
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in MADE if found[name] != expected[name]]
    wrong += [f"{name} is missing" for name, digest in digests(home, DECIDED).items() if digest == "missing"]
    wrong += damage(home) + left_behind(home)
    if any("missing" in each for each in wrong):
        return wrong
    return wrong + wrong_in_registry(home, tracking)
