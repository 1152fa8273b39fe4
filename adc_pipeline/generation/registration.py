"""Register a fine-tuned model with MLflow: a logged model of its run, and a version in the registry.

`generation/serving.py` defines what a version serves. The requirements are given, since inferring them would load the
model in another process (about 20 s). Logging copies the weights once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adc_pipeline.tracking.runs import Run

# The file beside the weights with their name, version and id in MLflow.
REGISTERED = "registered.json"


def register_model(run: Run, folder: Path, name: str) -> dict[str, Any]:
    """Log a Hugging Face folder as a model of `run` and register it as `name`; return name, version and id."""
    import mlflow
    from mlflow.models import Model

    from adc_pipeline.generation import serving

    mlflow.set_tracking_uri(run.tracking_uri)
    with mlflow.start_run(run_id=run.id):
        logged = Model.log(None, serving, registered_model_name=name, name=name, folder=folder)
    # MLflow ended the run with the block, but the artefact is not in place yet.
    run.client.update_run(run.id, "RUNNING")
    number = int(logged.registered_model_version or 0)
    run.client.update_model_version(name, str(number), serving.DESCRIPTION.format(name=name, version=number))
    return {"registered_model": name, "registered_version": number, "logged_model_id": logged.model_id}


def is_registered(run: Run, registered: Mapping[str, Any]) -> bool:
    """Return whether MLflow has the version that `register_model` returned, with its files."""
    from mlflow.exceptions import MlflowException

    try:
        run.client.get_model_version(registered["registered_model"], str(registered["registered_version"]))
        return bool(run.client.list_logged_model_artifacts(registered["logged_model_id"]))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
