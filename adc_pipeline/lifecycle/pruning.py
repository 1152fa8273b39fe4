"""Remove old versions of artefacts from the store, but nothing upstream of a version that is kept.

These versions are kept: the current version of each artefact; its newest versions, and all young ones; every registered
model with its evaluations, whatever their age; what may be one, since the record of its registration is damaged; and
everything upstream of these, by the manifests on disk and by the lineage in MLflow. A model's history is therefore
removed only after its version has been deleted from the registry. If the lineage of a registered version is unknown,
nothing is removed at all. Only `ADC_HOME/store` is pruned; the registry, MLflow's runs and their files stay, which
`mlflow gc` removes.

A version is renamed before it is removed, so that no reader finds half of it; if pruning is killed, the next run
removes the rest. Cost: 0.13 s of one core for each registered version, after importing MLflow.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.core.markdown import code, table
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, Key
from adc_pipeline.generation.registration import REGISTERED, read_registered
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.tracking.lineage import ORIGIN, Records
from adc_pipeline.tracking.tags import ASSET
from adc_pipeline.walks.kinds import KINDS

DAY = 86_400.0
EVALUATIONS = {kind.model: kind.evaluation for kind in KINDS.values()}


@dataclass(frozen=True)
class Plan:
    """Every version in the store: those kept, with the reason; those to remove, with the time each was last made."""

    kept: Mapping[Key, str]
    to_remove: Mapping[Key, float]
    bytes: Mapping[Key, int]

    @property
    def freed(self) -> int:
        return sum(self.bytes[key] for key in self.to_remove)


def plan(store: Store, records: Records, settings: RetentionSettings, now: float | None = None) -> Plan:
    """Decide which versions in the store to keep; `now` is in seconds since 1970.

    Raise PipelineError while something is being made, and if the lineage of a registered model is unknown.
    """
    now = time.time() if now is None else now
    if making := store.being_written():
        raise PipelineError(
            f"{', '.join(making)} in ADC_HOME = {store.home} is being made: run the job prune when that run has ended."
        )
    versions = {made.key: made for made in store.versions()}
    times = {key: store.made_at(made) for key, made in versions.items()}
    # Includes versions that the store no longer has, since these may be downstream of some that it has.
    reasons = registered(records, versions)
    for name in sorted({name for name, _ in versions}):
        own = sorted((key for key in versions if key[0] == name), key=lambda key: (-times[key], key))
        for place, key in enumerate(own):
            if store.is_current(versions[key]):
                reasons.setdefault(key, "is the current version")
            elif place < settings.keep_versions:
                reasons.setdefault(key, f"is among the newest {settings.keep_versions}")
            elif now - times[key] < settings.keep_days * DAY:
                reasons.setdefault(key, f"is younger than {settings.keep_days:g} days")
    kept = with_upstream(reasons, versions)
    return Plan(
        kept={key: kept[key] for key in versions if key in kept},
        to_remove={key: times[key] for key in versions if key not in kept},
        bytes={key: store.size(made) for key, made in versions.items()},
    )


def prune(store: Store, plan: Plan) -> list[Key]:
    """Remove versions as planned, except those made again or made current since; return the removed ones.

    Removes what killed runs have left too, an earlier pruning among them.
    """
    store.remove_left()
    return [key for key, seen in sorted(plan.to_remove.items()) if store.remove(*key, seen)]


def with_upstream(reasons: Mapping[Key, str], versions: Mapping[Key, Artefact]) -> dict[Key, str]:
    """Return `reasons` with everything upstream added, by the manifests on disk; each reason names what needs it."""
    kept = dict(reasons)
    waiting = list(reasons)
    while waiting:
        key = waiting.pop()
        made = versions.get(key)
        for upstream in made.inputs.items() if made else ():
            if upstream not in kept:
                kept[upstream] = f"is upstream of {key[0]} {key[1][:12]}, which {kept[key]}"
                waiting.append(upstream)
    return kept


def registered(records: Records, versions: Mapping[Key, Artefact]) -> dict[Key, str]:
    """Return every registered version of this pipeline's models, with its evaluations and all that is upstream.

    Raise PipelineError if a lineage in MLflow ends before a raw corpus and no manifest on disk continues it.
    """
    folders, damaged = by_registered_version(versions.values())
    # A version with one of these names belongs to this pipeline, even if its run has been deleted.
    ours = {kind.registered for kind in KINDS.values()} | {name.rpartition("/")[0] for name in folders}
    needed = dict.fromkeys(damaged, f"may be registered, since its {REGISTERED} cannot be read")
    for version in records.versions():
        name = f"{version.name}/{version.version}"
        try:
            trees = [records.above_version(version)]
        except PipelineError as error:
            if name in folders:
                needed[folders[name]] = f"is registered as {name}"
            elif {version.name, records.logged_as(version)} & ours or {ASSET, ORIGIN} & version.tags.keys():
                raise PipelineError(
                    f"Nothing was removed, because the lineage of {name} is unknown: {error} Or delete that version"
                    " from the registry."
                ) from error
            continue
        model = trees[0]
        if model.asset in EVALUATIONS:
            trees += records.evaluations(EVALUATIONS[model.asset], model)
        for tree in trees:
            for node in tree.walk():
                needed.setdefault(node.key, f"is registered as {name}" if node is model else f"belongs to {name}")
                if node.run is None and node.asset != "raw_corpus" and node.key not in versions:
                    raise PipelineError(
                        f"Nothing was removed, because the lineage of {name} is unknown: of {node.asset} {node.digest},"
                        f" {node.note}. Restore that server's runs, or delete that version from the registry."
                    )
    return needed


def by_registered_version(versions: Iterable[Artefact]) -> tuple[dict[str, Key], list[Key]]:
    """Return the artefacts with a record of their registration by NAME/VERSION, and those whose record is damaged."""
    found: dict[str, Key] = {}
    damaged: list[Key] = []
    for made in versions:
        if os.path.lexists(made.path / REGISTERED):
            try:
                facts = read_registered(made.path)
                found[f"{facts['registered_model']}/{facts['registered_version']}"] = made.key
            except DamagedError:
                damaged.append(made.key)
    return found, damaged


def markdown(plan: Plan, gone: Iterable[Key]) -> str:
    """Return a table of all versions: removed, to be removed, or kept with the reason."""
    removed = set(gone)
    status = {key: "removed" if key in removed else "to be removed" for key in sorted(plan.to_remove)}
    status |= {key: f"kept: {reason}" for key, reason in sorted(plan.kept.items())}
    rows = [(name, code(digest), f"{plan.bytes[name, digest]:,}", what) for (name, digest), what in status.items()]
    return table(["artefact", "digest", "bytes", "status"], rows, right=[2])
