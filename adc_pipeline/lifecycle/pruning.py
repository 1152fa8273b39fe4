"""Removes old artefacts from the store, but nothing that anything kept was made from.

Kept are: what is in place; of each artefact the newest versions, and all young ones; every registered model with
its evaluations, whatever its age; and with each of these, all that it was made from, as its manifest on disk and
its lineage in MLflow say. So a model's whole history goes only after its version has been deleted from the registry.
Where the lineage of a registered version cannot be known, nothing is removed at all. The registry, MLflow's runs and
their files are not touched (`mlflow gc` is for those), nor is anything outside of `ADC_HOME/store`.

A version is renamed aside before it is removed, so that no reader finds a half, and what a killed pruning left is
swept with what killed runs leave. Cost: 0.13 s of one core for each registered version, after importing MLflow.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adc_pipeline.core.artefacts import Artefact, Store
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.markdown import code, table
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.runs import ASSET
from adc_pipeline.walks.kinds import KINDS

DAY = 86_400.0
# A version that has, or had, one of these names belongs to this pipeline, even if its run is gone.
MODELS = {kind.registered for kind in KINDS.values()}
EVALUATIONS = {kind.model: kind.evaluation for kind in KINDS.values()}

Key = tuple[str, str]  # name and digest


@dataclass(frozen=True)
class Plan:
    """What is kept, by the reason for it, and what is to go, each with its time (of the newest making) and size."""

    kept: Mapping[Key, str]
    going: Mapping[Key, float]
    bytes: Mapping[Key, int]

    @property
    def freed(self) -> int:
        return sum(self.bytes[key] for key in self.going)


def plan(store: Store, records: Records, settings: RetentionSettings, now: float | None = None) -> Plan:
    """Decide about every version in the store; `now` is in seconds since 1970.

    Raises PipelineError while something is being made, and where it cannot be known what a registered model needs.
    """
    now = time.time() if now is None else now
    if making := store.being_written():
        raise PipelineError(
            f"{', '.join(making)} in ADC_HOME = {store.home} is being made: run the job prune when that run has ended."
        )
    versions = {(made.name, made.digest): made for made in store.versions()}
    times = {key: store.made_at(made) for key, made in versions.items()}
    reasons: dict[Key, str] = {}
    # What the store has none of is in here too: it may be above something that it has.
    for key, why in registered(records, versions).items():
        reasons.setdefault(key, why)
    for name in sorted({name for name, _ in versions}):
        own = sorted((key for key in versions if key[0] == name), key=lambda key: (-times[key], key))
        for place, key in enumerate(own):
            if store.is_current(versions[key]):
                reasons.setdefault(key, "is in place")
            elif place < settings.keep_versions:
                reasons.setdefault(key, f"is among the newest {settings.keep_versions}")
            elif now - times[key] < settings.keep_days * DAY:
                reasons.setdefault(key, f"is younger than {settings.keep_days:g} days")
    kept = with_inputs(reasons, versions)
    return Plan(
        kept={key: kept[key] for key in versions if key in kept},
        going={key: times[key] for key in versions if key not in kept},
        bytes={key: store.size(made) for key, made in versions.items()},
    )


def prune(store: Store, plan: Plan) -> list[Key]:
    """Remove what is to go; returns what went. What was made again or put in place since the plan stays."""
    return [key for key, seen in sorted(plan.going.items()) if store.remove(*key, seen)]


def with_inputs(reasons: Mapping[Key, str], versions: Mapping[Key, Artefact]) -> dict[Key, str]:
    """`reasons`, and all that these were made from by the manifests on disk, each with what needs it."""
    kept = dict(reasons)
    waiting = list(reasons)
    while waiting:
        key = waiting.pop()
        made = versions.get(key)
        for above in made.inputs.items() if made else ():
            if above not in kept:
                kept[above] = f"{key[0]} {key[1][:12]} was made from it, which {kept[key]}"
                waiting.append(above)
    return kept


def registered(records: Records, versions: Mapping[Key, Artefact]) -> dict[Key, str]:
    """What the registered versions of every model of this pipeline are, and were made from, by MLflow.

    Raises PipelineError where that ends before a raw corpus, and the manifests on disk do not go on.
    """
    folders = by_registered_version(versions.values())
    needed: dict[Key, str] = {}
    for version in records.versions():
        name = f"{version.name}/{version.version}"
        try:
            trees = [records.above_version(version)]
        except PipelineError as error:
            if name in folders:
                needed[folders[name]] = f"is registered as {name}"
            elif {version.name, records.logged_as(version)} & MODELS or ASSET in version.tags:
                raise PipelineError(
                    f"Nothing was removed, since it is not known what {name} needs: {error} Or delete that version from"
                    " the registry."
                ) from error
            continue
        model = trees[0]
        if model.asset in EVALUATIONS:
            trees += records.evaluations(EVALUATIONS[model.asset], model)
        for tree in trees:
            for node in tree.walk():
                key = (node.asset, node.digest)
                needed.setdefault(key, f"is registered as {name}" if node is model else f"{name} needs it")
                if node.run is None and node.asset != "raw_corpus" and key not in versions:
                    raise PipelineError(
                        f"Nothing was removed, since it is not known what {name} needs: of {node.asset} {node.digest},"
                        f" {node.note}. Give that server back its runs, or delete that version from the registry."
                    )
    return needed


def by_registered_version(versions: Iterable[Artefact]) -> dict[str, Key]:
    """Which artefacts say of themselves that they are registered, by NAME/VERSION."""
    found = {}
    for made in versions:
        record = made.path / REGISTERED
        if record.exists():
            facts = json.loads(record.read_text())
            found[f"{facts['registered_model']}/{facts['registered_version']}"] = (made.name, made.digest)
    return found


def markdown(plan: Plan, gone: Iterable[Key]) -> str:
    """Return a table of all versions: removed, to be removed, or kept with the reason."""
    removed = set(gone)
    status = {key: "removed" if key in removed else "to go" for key in sorted(plan.going)}
    status |= {key: f"kept: {reason}" for key, reason in sorted(plan.kept.items())}
    rows = [(name, code(digest), f"{plan.bytes[name, digest]:,}", what) for (name, digest), what in status.items()]
    return table(["artefact", "digest", "bytes", ""], rows, right=[2])
