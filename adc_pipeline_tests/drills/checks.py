"""Check an ADC_HOME after its last run, whatever happened to earlier runs."""

import json
import os
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import file_digest, folder_digest
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import DIGEST
from adc_pipeline.walks.kinds import KINDS

# In the order in which they are made; the same corpus and settings give the same bytes.
MADE = (
    "raw_corpus",
    "utterances",
    "ranked_replies",
    *(kind.dataset for kind in KINDS.values()),
    "base_model",
    *(kind.model for kind in KINDS.values()),
    *(kind.evaluation for kind in KINDS.values()),
    "comparison",
)
# Champions contain the number of a model's version, which is higher after the model is made again.
DECIDED = tuple(kind.champion for kind in KINDS.values())
MODELS = {kind.model: kind.registered for kind in KINDS.values()}
# Patterns of temporary files that a killed run may leave.
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
    """Return the digest of each asset's current artefact, computed from its files, or "missing"."""
    found = {}
    for name in names:
        place = Store(home).place(name)
        found[name] = folder_digest(place.resolve()) if place.exists() else "missing"
    return found


def damage(home: Path) -> list[str]:
    """Return what is wrong with the current artefacts, by their files alone."""
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
            wrong.append(f"{name} has the content {content}, but its manifest the digest {made.digest}")
        if name in MODELS:
            json.loads((made.path / REGISTERED).read_text())
    return wrong


def left_behind(home: Path) -> list[str]:
    """Return the temporary files that no run will remove; call it after a run that succeeded."""
    found = {path for pattern in TRACES for path in home.glob(pattern)}
    # Training keeps its last checkpoints, for a rerun with more steps.
    found |= {
        path for path in (home / "work").rglob("*") if path.is_file() and path.parts[len(home.parts) + 1] not in MODELS
    }
    return [f"{path.relative_to(home)} was left behind" for path in sorted(found)]


def wrong_in_registry(home: Path, tracking: str) -> list[str]:
    """Return where the newest version of a registered model, its run or its files, differs from the current model."""
    found = []
    client = (Tracking(tracking) if tracking else Tracking(f"sqlite:///{home / 'mlflow.db'}")).client()
    for asset, name in MODELS.items():
        model = Store(home).current(asset)
        latest = max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
        recorded = json.loads((model.path / REGISTERED).read_text())
        if recorded["registered_version"] != int(latest.version):
            found.append(
                f"{asset} is version {recorded['registered_version']} of {name}, but the newest is {latest.version}"
            )
        run = client.get_run(str(latest.run_id))
        if run.info.status != "FINISHED" or run.data.tags.get(DIGEST) != model.digest:
            found.append(f"version {latest.version} of {name} is {run.data.tags.get(DIGEST)}, {run.info.status}")
        found += differing_files(client.tracking_uri, recorded["logged_model_id"], model.path, name)
    return found


def differing_files(tracking: str, logged_model: str, model: Path, name: str) -> list[str]:
    """Return which of the weights, configuration and tokenizer in MLflow differ from the current model's."""
    # Progress bars would hide the drill's output.
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(tracking)
    served = Path(download_artifacts(f"models:/{logged_model}"))
    files = {path.name: path for path in served.rglob("*") if "code" not in path.relative_to(served).parts}
    return [
        f"{file} of {name} in MLflow differs from the current model's"
        for file in ("model.safetensors", "config.json", "tokenizer.json")
        if file not in files or file_digest(files[file]) != file_digest(model / file)
    ]


def check(home: Path, expected: dict[str, str], tracking: str = "") -> list[str]:
    """Return what is wrong after the last run; empty if the drill has passed."""
    found = digests(home)
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in MADE if found[name] != expected[name]]
    wrong += [f"{name} is missing" for name, digest in digests(home, DECIDED).items() if digest == "missing"]
    wrong += damage(home) + left_behind(home)
    if any("missing" in each for each in wrong):
        return wrong
    return wrong + wrong_in_registry(home, tracking)
