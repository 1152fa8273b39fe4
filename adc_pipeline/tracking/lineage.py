"""From a registered model version back to the raw corpus, with nothing but an MLflow client.

A run names what it read by asset and digest, and what it made likewise; the maker of an input is the
newest finished run that made this digest. The cost is one search a node.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adc_pipeline.errors import PipelineError
from adc_pipeline.tracking.runs import ASSET, DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Node:
    """An artefact in the tree: what it is, which run made it, and what that run read."""

    asset: str
    digest: str
    run: str | None
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list["Node"] = field(default_factory=list)

    def find(self, asset: str) -> "Node | None":
        """The first node of this asset in the tree, itself included."""
        if self.asset == asset:
            return self
        return next((found for node in self.inputs if (found := node.find(asset))), None)


def model_lineage(client: "MlflowClient", model: str, version: str) -> Node:
    """The tree above version `version` of the registered model `model`."""
    run_id = client.get_model_version(model, version).run_id
    if not run_id:
        raise PipelineError(f"Version {version} of {model} names no MLflow run, so its origin is unknown.")
    return _node(client, client.get_run(run_id))


def _node(client: "MlflowClient", run: "Run") -> Node:
    read = run.inputs.dataset_inputs if run.inputs else []
    inputs = [
        _maker(client, run.info.experiment_id, entry.dataset.name, entry.dataset.digest)
        for entry in read
        if any(tag.key == "mlflow.data.context" and tag.value == "input" for tag in entry.tags)
    ]
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return Node(tags[ASSET], tags.get(DIGEST, ""), run.info.run_id, tags, inputs)


def _maker(client: "MlflowClient", experiment: str, asset: str, digest: str) -> Node:
    found = client.search_runs(
        [experiment],
        f"tags.`{ASSET}` = '{asset}' AND tags.`{DIGEST}` = '{digest}' AND attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return _node(client, found[0]) if found else Node(asset, digest, None)
