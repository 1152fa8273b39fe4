"""The champions, which decide whether a model's newest version is promoted.

In a run of a whole job, a failed blocking check ends the run before a champion is decided. When a champion is
materialized alone, the last results of the upstream checks in Dagster's history count.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.manifests import Artefact, read_making
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.assets import corpus, evaluation, preferences, ranking, walks
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage
from adc_pipeline.generation.registration import read_registered
from adc_pipeline.lifecycle.settings import PromotionSettings
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.run import Run
from adc_pipeline.walks.kinds import KINDS, WalkKind

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from adc_pipeline.lifecycle.decision import Evaluated

CHECKS = [*corpus.checks, *ranking.checks, *walks.checks, *preferences.checks, *evaluation.checks]


@dataclass(frozen=True)
class Contest:
    """A new version of a model and the current champion that it is compared with, as in MLflow now."""

    records: Records
    name: str
    version: "ModelVersion"
    lineage: Node
    evaluation: Artefact
    tree: Node
    champion: "ModelVersion | None"
    against: "Evaluated | None"
    failed_checks: list[str]
    pinned: str | None
    passed_over: bool


def contest(kind: WalkKind, request: Request[PromotionSettings]) -> Contest:
    """Find the newest version, the champion and its evaluation."""
    from adc_pipeline.lifecycle import registry

    ours, tuned = request.inputs[kind.evaluation], request.inputs[kind.model]
    registered = read_registered(tuned.path)
    request.tracking.check()
    records = Records([request.tracking.client()])
    name = registered["registered_model"]
    try:
        version, lineage = registry.candidate(records, name, registered["registered_version"], tuned)
    except PipelineError as error:
        raise PipelineError(f"{error} Materializing {tuned.name} registers a version that is gone again.") from error
    tree = records.maker(ours.name, ours.digest)
    champion = registry.champion(records, name) or last_champion(records, name, request, ours.name)
    against = registry.evaluated(records, request.store, champion, ours.name) if champion else None
    failed = failed_checks(request.context.instance, tree, request.context.run.run_id)
    pinned = registry.pinned(records, name)
    passed = registry.passed_over(records, version, champion)
    return Contest(records, name, version, lineage, ours, tree, champion, against, failed, pinned, passed)


def last_champion(
    records: Records, name: str, request: Request[PromotionSettings], asset: str
) -> "ModelVersion | None":
    """Give a model that has lost its alias `champion` the one of the last decision again, and return that version.

    None if there was no champion, or if its version is gone or another model by now. `asset` names the evaluations.
    """
    from adc_pipeline.lifecycle import registry

    try:
        recorded = read_making(request.store.current(request.name))["outside"].get("champion")
        version = records.version(name, recorded[0]) if recorded else None
    except PipelineError:
        return None
    if version is None or figures_of(registry.evaluated(records, request.store, version, asset)) != recorded:
        return None
    records.registry.set_registered_model_alias(name, registry.CHAMPION, str(version.version))
    request.report(f"{name} had no champion in MLflow any more: version {version.version} is it again.")
    return version


def champion_stage(kind: WalkKind) -> Stage[PromotionSettings]:
    """Return the stage that decides whether the alias `champion` of `adc-KIND` moves to the newest version."""

    def complete(settings: PromotionSettings, partition: str | None) -> PromotionSettings:
        return replace(settings, metric=settings.metric or kind.promoted_by)

    def outside(request: Request[PromotionSettings]) -> Mapping[str, Any]:
        found = contest(kind, request)
        pinned = {"pinned": found.pinned} if found.pinned else {}
        version = str(found.version.version)
        return {
            "version": version,
            "champion": figures_of(found.against),
            "failed_checks": found.failed_checks,
            **pinned,
        }

    def make(making: Making[PromotionSettings]) -> None:
        from adc_pipeline.lifecycle.decision import DECISION, Evaluated, decide
        from adc_pipeline.lifecycle.registry import record

        found = contest(kind, making.request)
        ours, version, champion = found.evaluation, found.version, found.champion
        decision = decide(
            Evaluated(str(version.version), ours.path, ours.settings["max_context_tokens"]),
            found.against,
            found.failed_checks,
            making.settings,
            found.pinned,
            found.passed_over,
        )
        # A champion keeps the figures that it was promoted with.
        if decision.verdict != "champion already":
            record(found.records, version, found.lineage, ours.digest, decision)
        making.report(decision.reason)
        changed = changes(found)
        current = decision.version if decision.promoted else str(champion.version) if champion else "none"
        if decision.promoted:
            # The next run is compared with the champion that this run sets.
            making.outside["champion"] = figures_of(Evaluated(decision.version, ours.path))
        facts = asdict(decision) | {"model": found.name, "promoted": decision.promoted}
        (making.folder / DECISION).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
        (making.folder / "changes.md").write_text(changed)
        making.log_files(making.folder)
        making.count({"version": int(version.version), "promoted": int(decision.promoted)} | decision.figures())
        making.metadata |= {
            "decision": dg.MetadataValue.md(decision.reason),
            "changes": dg.MetadataValue.md(changed),
            "champion": current,
        }

    def restore(request: Request[PromotionSettings], made: Artefact, run: Run) -> Mapping[str, Any]:
        """Write the decision to the model's version again if that has lost it."""
        from adc_pipeline.lifecycle import registry
        from adc_pipeline.lifecycle.decision import read_decision

        tuned, evaluation = request.inputs[kind.model], request.inputs[kind.evaluation]
        registered, records = read_registered(tuned.path), Records([run.client])
        name, number = registered["registered_model"], registered["registered_version"]
        version, lineage = registry.candidate(records, name, number, tuned)
        if registry.restore(records, version, lineage, evaluation.digest, read_decision(made.path)):
            request.report(f"The decision on version {number} of {name} is written to it again.")
        return {}

    return Stage(
        name=kind.champion,
        place=f"champions/{kind.name}",
        group="promotion",
        description=f"Whether the newest version of {kind.registered} becomes the champion, the figures behind the"
        " decision, and the changes since the previous version.",
        settings=PromotionSettings,
        make=make,
        code=(__name__,),
        inputs=(kind.evaluation, kind.model),
        reads=(kind.evaluation,),
        kinds=("mlflow",),
        complete=complete,
        outside=outside,
        restore=restore,
    )


def changes(found: Contest) -> str:
    """Return as Markdown what differs from the previous version of the model."""
    from adc_pipeline.lifecycle.changes import what_changed
    from adc_pipeline.lifecycle.registry import previous

    before = previous(found.records, found.version)
    if before is None:
        return "### What changed\n\nThis is the first version.\n"
    since = f"version {before.version} of {found.name}"
    last = last_evaluation(found.records, before, found.evaluation.name)
    if not isinstance(last, Node):
        return f"### Since {since}\n\n{last}\n"
    old, new = (replace(node, metrics=found.records.figures(node)) for node in (last, found.tree))
    return what_changed(old, new, since)


def figures_of(champion: "Evaluated | None") -> list[str]:
    """Return the champion's version and the digest of its evaluation, or why there is none; empty without champion."""
    if champion is None:
        return []
    return [champion.version, champion.evaluation.name if champion.evaluation else champion.missing]


def last_evaluation(records: Records, version: "ModelVersion", asset: str) -> Node | str:
    """Return the tree of a version's newest evaluation, or of the version if it has none; else the reason."""
    try:
        model = records.above_version(version)
    except PipelineError as error:
        return str(error)
    return next(iter(records.evaluations(asset, model)), model)


def failed_checks(instance: dg.DagsterInstance, tree: Node, run: str) -> list[str]:
    """Return the checks of a tree's assets whose last result in Dagster is a failure.

    A check that an earlier run planned, and that has no result, counts as failed: it raised an error or was killed.
    """
    assets = {node.asset for node in tree.walk()}
    keys = [key for check in CHECKS for key in check.check_keys if key.asset_key.to_user_string() in assets]
    last = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return sorted(
        f"{key.name} of {key.asset_key.to_user_string()}"
        for key, record in last.items()
        if record.status.value == "FAILED" or (record.status.value == "PLANNED" and record.run_id != run)
    )


champions = [declare(champion_stage(kind)) for kind in KINDS.values()]
