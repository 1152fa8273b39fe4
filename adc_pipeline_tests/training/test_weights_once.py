"""A training to the content of a version that is there leaves no second copy of its weights in MLflow."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import content_digest, scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.assets.training import share_with_version
from adc_pipeline.generation.registration import share_weights
from adc_pipeline.tracking.run import Run

UNHASHED = ("registered.json",)


def train(home: Path, number: int) -> Path:
    """Put weights in place as a training does; return MLflow's copy of them."""
    store, location = Store(home), home / "mlflow" / str(number)
    (location / "model").mkdir(parents=True)
    client = SimpleNamespace(get_logged_model=lambda model: SimpleNamespace(artifact_location=location.as_uri()))
    copy = location / "model" / "model.safetensors"
    with store.aside("top_2_model") as folder:
        (folder / copy.name).write_bytes(b"weights")
        copy.write_bytes(b"weights")
        share_weights(folder, location.as_uri())
        registered: dict[str, Any] = {"registered_model": "adc-top-2", "registered_version": number}
        (folder / UNHASHED[0]).write_text(json.dumps(registered | {"logged_model_id": "m"}))
        (folder / "making.json").write_text("{}")
        files = scan(folder)
        digest = content_digest(files, UNHASHED)
        made = store.put(folder, Artefact("top_2_model", folder, digest, files=files, unhashed=UNHASHED))
    share_with_version(made, cast(Run, SimpleNamespace(client=client)))
    return copy


def test_a_training_to_the_same_content_shares_the_weights_in_place(tmp_path: Path) -> None:
    first, second = train(tmp_path, 1), train(tmp_path, 2)
    weights = Store(tmp_path).place("top_2_model") / "model.safetensors"
    assert first.samefile(weights)
    assert second.samefile(weights)
    assert weights.stat().st_nlink == 3
