"""Locate a model: a folder, an MLflow address, or a name on the Hugging Face Hub.

MLflow resolves `models:/NAME@latest` (the newest version; the alias is reserved), `NAME@ALIAS`, `NAME/VERSION` and
`runs:/RUN/NAME`. Its files are copied into a folder that exists while the model is loaded: MLflow would otherwise write
into its own store and leave the download behind. A local folder is read in place.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import check_model_folder, named_path
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.tracking.database import DATABASE
from adc_pipeline.tracking.failures import words
from adc_pipeline.tracking.runs import Tracking

MLFLOW_SCHEMES = ("models:", "runs:", "mlflow-artifacts:")


@dataclass(frozen=True)
class Place:
    """The folders, or the name on the Hub, that transformers loads weights and tokenizer from."""

    address: str  # as the user wrote it
    weights: str
    tokenizer: str

    @property
    def options(self) -> dict[str, Any]:
        """Options of `from_pretrained`: a folder needs no network, and code that comes with a model is not run."""
        return {"local_files_only": os.path.isdir(self.weights), "trust_remote_code": False}


@contextmanager
def located(address: str) -> Iterator[Place]:
    """Yield where to load the model `address` from, for the duration of the block.

    Raises PipelineError if there is no model.
    """
    folder = named_path(address)
    if address.strip() and os.path.isdir(folder):
        yield inside(folder, address)
    elif address.startswith(MLFLOW_SCHEMES):
        with tempfile.TemporaryDirectory(prefix="adc-model-") as copy:
            yield inside(fetched(address, copy), address)
    elif address[:1] in ("/", ".", "~") or address.count("/") > 1 or not address.strip():
        raise PipelineError(
            f"`--model` {address!r} is a path without a folder; give the folder of a model, models:/NAME@latest, or a"
            " name on the Hub."
        )
    else:
        yield Place(address, address, address)


def inside(folder: Path, address: str) -> Place:
    """Find weights and tokenizer in a model's folder, as transformers saved it or as MLflow logged it.

    Raises PipelineError if the folder has no model, or an adapter.
    """
    weights = folder / "model" if (folder / "MLmodel").exists() else folder
    # Without the folder that MLflow's file leads to there is no model, wherever a copy of it lies meanwhile.
    if weights.is_dir():
        check_model_folder(weights, "--model")
    if (weights / "adapter_config.json").exists():
        from adc_pipeline.training.architectures.weight_files import refuse_adapter

        refuse_adapter(str(weights), f"`--model` {address}", local_files_only=True)
    if not (weights / "config.json").exists():
        raise PipelineError(
            f"`--model` {address} contains no model (no config.json); give the folder of a model that this pipeline"
            " trained, such as ADC_HOME/models/top-2."
        )
    tokenizer = weights if (weights / "tokenizer_config.json").exists() else folder / "components" / "tokenizer"
    return Place(address, str(weights), str(tokenizer))


def fetched(address: str, folder: str) -> Path:
    """Copy the model of an MLflow address into `folder`."""
    home = Store.from_environment().home
    tracking = Tracking.from_environment(home)
    if "MLFLOW_TRACKING_URI" not in os.environ and not (home / DATABASE).exists():
        raise PipelineError(
            f"ADC_HOME = {home} contains no MLflow database with `--model` {address}; point ADC_HOME or"
            " MLFLOW_TRACKING_URI to where the model was trained."
        )
    tracking.check()
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(tracking.uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder))
    except (MlflowException, OSError, ValueError) as error:
        raise PipelineError(
            f"`--model` {address} cannot be loaded from MLflow at {tracking.shown}"
            f" ({words(error, [tracking.uri])}); check its name, version or alias, and ADC_HOME or MLFLOW_TRACKING_URI."
        ) from None
