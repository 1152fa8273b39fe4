"""A fine-tuned model as MLflow keeps it: a logged model of its run, and a version in the registry.

The requirements are given, since finding them out would load the model in a process of its own (about
20 s). Logging copies the weights once.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from adc_pipeline.tracking.runs import Run

# Beside the weights: under which name, version and id MLflow knows them.
REGISTERED = "registered.json"
REQUIREMENTS = ("torch", "transformers", "accelerate")


def register_model(run: Run, folder: Path, name: str) -> dict[str, Any]:
    """Log the Hugging Face folder as a model of `run` and register it as `name`; returns name, version and id."""
    import mlflow
    import mlflow.transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    components = {
        "model": AutoModelForCausalLM.from_pretrained(folder, local_files_only=True),
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
    }
    mlflow.set_tracking_uri(run.tracking_uri)
    with mlflow.start_run(run_id=run.id):
        logged = mlflow.transformers.log_model(
            transformers_model=components,
            name=name,
            task="text-generation",
            registered_model_name=name,
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
        )
    return {
        "registered_model": name,
        "registered_version": int(logged.registered_model_version or 0),
        "logged_model_id": logged.model_id,
    }
