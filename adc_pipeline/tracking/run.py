"""An MLflow run in progress, and what is logged to it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking.artifacts import share
from adc_pipeline.tracking.tags import DIGEST, NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Run:
    """An MLflow run in progress."""

    client: "MlflowClient"
    id: str
    address: str
    tracking_uri: str
    # What is logged of the artefact as a whole, besides its settings, for `tracking.restoration`.
    logged: dict[str, float] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)

    def describe(self, values: Mapping[str, Any]) -> None:
        """Log facts that are no settings and do not change during the run, such as a model's size, as parameters."""
        self.described.update(values)
        self.parameters(values)

    def note(self, markdown: str) -> None:
        """Write the run's description, which replaces an earlier one."""
        self.noted[NOTE] = markdown
        self.client.set_tag(self.id, NOTE, markdown)

    def parameters(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow accepts 6,000 characters; the artefact's manifest has the full value.
        self.client.log_batch(self.id, params=[Param(key, str(value)[:6000]) for key, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0, model: str | None = None) -> None:
        """Log numbers; `model` is the id of the logged model that they also describe."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step, model_id=model) for key, value in values.items()]
        if not step:
            self.logged.update({key: float(value) for key, value in values.items()})
        self.client.log_batch(self.id, metrics=metrics)

    def artefact(self, artefact: Artefact, context: str, schema: Mapping[str, str] | None = None) -> None:
        """Log an artefact by name and digest; `context` is `input` or `output`, `schema` are types by column."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=artefact.name,
            digest=artefact.digest,
            source_type="local",
            source=json.dumps({"uri": artefact.path.as_uri()}),
            profile=json.dumps(artefact.counts),
            # As MLflow's own datasets write it. A type is the file's, which MLflow's own types cannot all express.
            schema=json.dumps({"mlflow_colspec": [{"name": n, "type": t, "required": True} for n, t in schema.items()]})
            if schema
            else None,
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.id, [DatasetInput(dataset, tags)])
        if context == "output":
            self.client.set_tag(self.id, DIGEST, artefact.digest)

    def file(self, path: Path) -> None:
        """Log a file, or a folder with all it holds. On the same disk, MLflow's copy becomes a hard link."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), path.name)
        else:
            self.client.log_artifact(self.id, str(path))
        share(path, self.client.get_run(self.id).info.artifact_uri)
