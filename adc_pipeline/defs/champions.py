"""Dagster's view of the promotion: for each dataset's model, whether the newest version becomes the champion.

A blocking asset check that fails ends a run before it comes here. Where an asset is materialized alone, the last
results of the checks above it, as Dagster knows them, decide.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.defs import corpus as corpus
from adc_pipeline.defs import evaluation as evaluation
from adc_pipeline.defs import ranking as ranking
from adc_pipeline.defs import walks as walks
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.lifecycle.settings import METRICS, PromotionSettings
from adc_pipeline.tracking.lineage import Node, Records
from adc_pipeline.walks.coins import WalkKind

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from adc_pipeline.lifecycle.decision import Evaluated

CHECKS = [*dg.load_asset_checks_from_modules([corpus, ranking]), *walks.checks, *evaluation.checks]
EVALUATIONS: dict[WalkKind, dg.AssetsDefinition] = {
    "top-2": evaluation.top_2_evaluation,
    "random-walk": evaluation.random_walk_evaluation,
}


def champion_asset(kind: WalkKind) -> dg.AssetsDefinition:
    """The asset of the decision whether the alias `champion` of `adc-KIND` moves to the newest version."""
    model = evaluation.EVALUATED[kind][1]
    model_name, evaluation_name = model.key.to_user_string(), EVALUATIONS[kind].key.to_user_string()

    @dg.asset(
        name=model_name.replace("_model", "_champion"),
        description=f"Whether the newest version of adc-{kind} becomes champion, by which figures, and what changed.",
        group_name="promotion",
        deps=[model, EVALUATIONS[kind]],
        kinds={"mlflow"},
        code_version=code_version("adc_pipeline.defs.champions"),
    )
    def champion(
        context: dg.AssetExecutionContext, config: SettingsConfig[PromotionSettings], workspace: Workspace
    ) -> dg.MaterializeResult:
        from adc_pipeline.lifecycle.changes import what_changed
        from adc_pipeline.lifecycle.decision import Evaluated, decide
        from adc_pipeline.lifecycle.registry import candidate, evaluated, previous, record
        from adc_pipeline.lifecycle.registry import champion as current_champion

        metric = config.model_copy(update={"metric": config.settings().metric or METRICS[kind]})
        with workspace.materializing(context, metric) as making:
            ours = making.input(evaluation_name)
            tuned = making.input(model_name, ours.inputs[model_name])
            registered = json.loads((tuned.path / REGISTERED).read_text())
            workspace.tracking.check()
            records = Records([workspace.tracking.client()])
            name = registered["registered_model"]
            version, lineage = candidate(records, name, registered["registered_version"], tuned)
            tree = records.maker(ours.name, ours.digest)
            old, failed = current_champion(records, name), failed_checks(context.instance, tree, context.run.run_id)
            against = evaluated(records, workspace.store, old, ours.name) if old else None
            if making.unchanged({"champion": figures_of(against), "failed_checks": failed}):
                return making.result()
            decision = decide(
                Evaluated(str(version.version), ours.path, ours.settings["max_context_tokens"]),
                against,
                failed,
                making.settings,
            )
            # A champion keeps the figures by which it became one.
            if decision.verdict != "champion already":
                record(records, version, lineage, ours.digest, decision)
            context.log.info(decision.reason)
            before = previous(records, version)
            changed = "### What changed\n\nThis is the first version.\n"
            if before:
                last = last_evaluation(records, before, ours.name)
                since = f"version {before.version} of {name}"
                changed = (
                    what_changed(last, tree, since) if isinstance(last, Node) else f"### Since {since}\n\n{last}\n"
                )
            stands = decision.version if decision.promoted else str(old.version) if old else "none"
            if decision.promoted:
                # The next run finds the champion that this one leaves.
                making.outside["champion"] = figures_of(Evaluated(decision.version, ours.path))
            told = asdict(decision) | {"model": name, "promoted": decision.promoted}
            (making.folder / "decision.json").write_text(json.dumps(told, indent=1) + "\n")
            (making.folder / "changes.md").write_text(changed)
            making.run.files(making.folder)
            making.count({"version": int(version.version), "promoted": int(decision.promoted)} | decision.figures())
            making.metadata |= {
                "decision": dg.MetadataValue.md(decision.reason),
                "changes": dg.MetadataValue.md(changed),
                "champion": stands,
            }
        return making.result()

    return champion


def figures_of(champion: "Evaluated | None") -> list[str]:
    """What a decision compares with: a version, and the digest of its evaluation or why there is none."""
    if champion is None:
        return []
    return [champion.version, champion.evaluation.name if champion.evaluation else champion.missing]


def last_evaluation(records: Records, version: "ModelVersion", asset: str) -> Node | str:
    """The tree of a version's newest evaluation, or of the version where it has none; else why there is neither."""
    try:
        model = records.above_version(version)
    except PipelineError as error:
        return str(error)
    return next(iter(records.evaluations(asset, model)), model)


def failed_checks(instance: dg.DagsterInstance, tree: Node, run: str) -> list[str]:
    """The checks of the assets in a tree whose last result, where Dagster knows one, was a failure.

    A check that an earlier run was to make and that has no result raised an error, or was killed.
    """
    assets = {node.asset for node in tree.walk()}
    keys = [key for check in CHECKS for key in check.check_keys if key.asset_key.to_user_string() in assets]
    last = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return sorted(
        f"{key.name} of {key.asset_key.to_user_string()}"
        for key, record in last.items()
        if record.status.value == "FAILED" or (record.status.value == "PLANNED" and record.run_id != run)
    )


top_2_champion = champion_asset("top-2")
random_walk_champion = champion_asset("random-walk")
