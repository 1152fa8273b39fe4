"""Register a fine-tuned model with MLflow: a logged model of its run, and a version in the registry.

`generation/serving.py` defines what a version serves. The requirements are given, since inferring them would load the
model in another process (about 20 s). MLflow's copy of the weights becomes a hard link to those in the artefact store
where both are on one disk.
"""

from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from adc_pipeline.core.markdown import Markdown, code, escape, table
from adc_pipeline.core.records import read_record
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.generation import serving
from adc_pipeline.tracking.artifacts import share
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.run import Run

# The file beside the weights with their name, version and id in MLflow.
REGISTERED = "registered.json"
# The part of a version's description with its lineage, and the counts that it shows.
HEADING = "## Lineage"
COUNTS = ("bytes", "conversations", "parameters", "ranked", "read", "turns", "walks")

MODEL_DESCRIPTION = (
    "A language model that learns from the replies people rejected. The alias `champion` names the version to use. A"
    " version's description says how to ask it, what it was made from, and why it was promoted or not."
)


def read_registered(folder: Path) -> dict[str, Any]:
    """Return what `register_model` returned for the model in a folder; raise PipelineError if that is damaged."""
    return read_record(folder / REGISTERED, registered_model=str, registered_version=int, logged_model_id=str)


def register_model(run: Run, folder: Path, name: str, flavor: ModuleType = serving) -> dict[str, Any]:
    """Log a Hugging Face folder as a model of `run` and register it as `name`; return name, version and id.

    `flavor` is the module that writes and serves it: `evaluation.served` ranks candidates too.
    """
    import mlflow
    from mlflow.models import Model

    mlflow.set_tracking_uri(run.tracking_uri)
    status = run.client.get_run(run.id).info.status
    with mlflow.start_run(run_id=run.id):
        logged = Model.log(None, flavor, name=name, folder=folder)
    # MLflow ends the run with the block, also one that goes on until its artefact is in place.
    run.client.update_run(run.id, status)
    share_weights(folder, run.client.get_logged_model(logged.model_id).artifact_location)
    # MLflow prints on stderr that it has registered the model.
    with redirect_stderr(StringIO()):
        number = int(mlflow.register_model(f"models:/{logged.model_id}", name).version)
    return {"registered_model": name, "registered_version": number, "logged_model_id": logged.model_id}


def share_weights(folder: Path, location: str) -> None:
    """Store the weights of a logged model once: link those of MLflow to those in `folder`, where they are the same."""
    for path in folder.glob("*.safetensors"):
        share(path, f"{location}/model")


def describe_version(run: Run, registered: Mapping[str, Any], inputs: Mapping[str, Artefact]) -> None:
    """Describe a registered model and its version where they have no description; a person's words stay.

    A version's is how to ask it, and its lineage: a table with links to the MLflow runs.
    """
    name, number = registered["registered_model"], str(registered["registered_version"])
    if not run.client.get_registered_model(name).description:
        run.client.update_registered_model(name, MODEL_DESCRIPTION)
    if (run.client.get_model_version(name, number).description or "").strip():
        return
    records = Records([run.client])
    nodes: dict[tuple[str, str], Node] = {}
    for artefact in inputs.values():
        nodes |= {(node.asset, node.digest): node for node in records.maker(artefact.name, artefact.digest).walk()}
    rows = [
        (
            Markdown(f"[{escape(node.asset)}]({run.address.replace(run.id, node.run)})") if node.run else node.asset,
            code(node.digest),
            ", ".join(f"{name} {value}" for name, value in sorted(node.counts.items()) if name in COUNTS),
        )
        for node in nodes.values()
    ]
    asked = serving.DESCRIPTION.format(name=name, version=number).rstrip()
    lineage = f"Trained by [this run]({run.address}) from:\n\n{table(['artefact', 'digest', 'counts'], rows)}"
    run.client.update_model_version(name, number, f"{asked}\n\n{HEADING}\n\n{lineage}")


def is_registered(run: Run, registered: Mapping[str, Any]) -> bool:
    """Return whether MLflow has the version that `register_model` returned, with its files and the run it came from.

    A name that was deleted and made again has other models under the same numbers. `mlflow gc` removes a deleted run
    and leaves the version, whose lineage is then unknown.
    """
    from mlflow.exceptions import MlflowException

    try:
        name, model = registered["registered_model"], registered["logged_model_id"]
        version = run.client.get_model_version(name, str(registered["registered_version"]))
        files = [
            file.path for place in (None, "model") for file in run.client.list_logged_model_artifacts(model, place)
        ]
        if version.run_id:
            run.client.get_run(version.run_id)
        complete = "MLmodel" in files and any(file.endswith(".safetensors") for file in files)
        return complete and version.source == f"models:/{model}"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
