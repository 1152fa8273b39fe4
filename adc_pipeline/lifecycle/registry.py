"""The champion in MLflow's registry: who it is, where its evaluation is, and what was decided about a version.

The decision is written on the version before the alias moves, so that no champion is without its figures. The
alias `latest` is MLflow's own and always means the newest version.
"""

from typing import TYPE_CHECKING

from adc_pipeline.core.artefacts import Artefact, Store
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.lifecycle.decision import Decision, Evaluated
from adc_pipeline.tracking.lineage import Node, Records
from adc_pipeline.tracking.runs import ASSET, DIGEST

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
# The decision's tags on a version begin so.
PROMOTION = "adc.promotion"
HEADING = "## Promotion"


def candidate(records: Records, name: str, number: int, model: Artefact) -> tuple["ModelVersion", Node]:
    """The version that a model's folder is registered as, and its lineage.

    Raises PipelineError where the registry has another model there.
    """
    version = records.version(name, str(number))
    node = records.above_version(version)
    if node.digest != model.digest:
        raise PipelineError(
            f"Version {number} of {name} at {records.addresses} has the digest {node.digest}, not that of {model.name}"
            f" in place ({model.digest}), which was registered on another tracking server: point MLFLOW_TRACKING_URI"
            f" there, or materialize {model.name} again."
        )
    return version, node


def champion(records: Records, name: str) -> "ModelVersion | None":
    """The version that the alias `champion` means now."""
    number = records.registry.get_registered_model(name).aliases.get(CHAMPION)
    return records.version(name, str(number)) if number else None


def evaluated(records: Records, store: Store, version: "ModelVersion", asset: str) -> Evaluated:
    """The newest evaluation of a version that is still on disk."""
    number = str(version.version)
    try:
        model = records.above_version(version)
    except PipelineError as error:
        return Evaluated(number, None, missing=f"of version {number} no evaluation is known ({error})")
    known = records.evaluations(asset, model)
    for node in known:
        try:
            found = store.version(asset, node.digest)
        except PipelineError:
            continue
        return Evaluated(number, found.path, found.settings.get("max_context_tokens"))
    if not known:
        return Evaluated(number, None, missing=f"MLflow knows of no finished evaluation of version {number}")
    where = f"the evaluation of version {number} ({known[0].digest}) is no longer in {store.home / 'store' / asset}"
    return Evaluated(number, None, missing=where)


def previous(records: Records, version: "ModelVersion") -> "ModelVersion | None":
    """The newest version before this one."""
    before = [each for each in records.versions(version.name) if int(each.version) < int(version.version)]
    return max(before, key=lambda each: int(each.version), default=None)


def record(records: Records, version: "ModelVersion", model: Node, evaluation: str, decision: Decision) -> None:
    """Write a decision on its version, and then move the alias if that was decided.

    `evaluation` is the digest of the evaluation that it rests on. The asset and digest are written too: they keep
    the version's origin known when its run is purged.
    """
    client, name, number = records.registry, version.name, str(version.version)
    tags = {ASSET: model.asset, DIGEST: model.digest, PROMOTION: decision.verdict}
    told = {"metric": decision.metric, "against": decision.against, "reason": decision.reason, "evaluation": evaluation}
    told |= {key: repr(value) for key, value in decision.figures().items()}
    tags |= {f"{PROMOTION}.{key}": value for key, value in told.items()}
    for key in version.tags.keys() - tags.keys():
        # Of an earlier decision, which this one takes the place of.
        if key.startswith(PROMOTION):
            client.delete_model_version_tag(name, number, key)
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    described = (version.description or "").partition(HEADING)[0].rstrip()
    client.update_model_version(name, number, f"{described}\n\n{HEADING}\n\n{decision.reason}\n".lstrip())
    if decision.promoted:
        client.set_registered_model_alias(name, CHAMPION, number)
