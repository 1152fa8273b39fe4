"""Dagster's view of the evaluation: one for each model, and the comparison of both with their base."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import dagster as dg

from adc_pipeline.core.artefacts import Artefact, flattened
from adc_pipeline.core.code_version import code_version
from adc_pipeline.defs.corpus import utterances
from adc_pipeline.defs.ranking import ranked_replies
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.training import base_model, random_walk_model, top_2_model
from adc_pipeline.defs.walks import random_walk, top_2
from adc_pipeline.defs.workspace import Materialization, Workspace, picture
from adc_pipeline.evaluation.settings import ComparisonSettings, EvaluationSettings
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.walks.coins import WalkKind

EVALUATED: dict[WalkKind, tuple[dg.AssetsDefinition, dg.AssetsDefinition]] = {
    "top-2": (top_2, top_2_model),
    "random-walk": (random_walk, random_walk_model),
}

# What Dagster plots over the materializations.
HEADLINES = (
    "preference_accuracy",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "perplexity",
    "bits_per_byte",
)


def evaluation_asset(kind: WalkKind) -> dg.AssetsDefinition:
    """The asset of one model's evaluation on the test split."""
    dataset, model = EVALUATED[kind]
    dataset_name, model_name = dataset.key.to_user_string(), model.key.to_user_string()

    @dg.asset(
        name=f"{dataset_name}_evaluation",
        description=f"What the {kind} model learned, on test conversations, next to its base model.",
        group_name="evaluation",
        deps=[model, base_model, dataset, utterances, ranked_replies],
        kinds={"pytorch", "mlflow"},
        code_version=code_version("evaluation"),
    )
    def evaluation(
        context: dg.AssetExecutionContext, config: SettingsConfig[EvaluationSettings], workspace: Workspace
    ) -> dg.MaterializeResult:
        with workspace.materializing(context, config) as making:
            # The model's own dataset and base, and that dataset's own utterances and ranks.
            tuned = making.input(model_name)
            walks, base = (making.input(name, tuned.inputs[name]) for name in (dataset_name, "base_model"))
            read = making.input("utterances", walks.inputs["utterances"])
            ranked = making.input("ranked_replies", walks.inputs["ranked_replies"])
            if making.unchanged():
                return making.result()
            from adc_pipeline.evaluation.evaluate import EvaluationJob, evaluate
            from adc_pipeline.evaluation.tables import headline_table

            corpus = workspace.store.version("raw_corpus", read.inputs["raw_corpus"])
            # Of the training, so that MLflow can compare evaluations by what was trained.
            trained = {"dataset": kind, "base_model": base.settings["name"]}
            trained |= {name: tuned.settings[name] for name in ("objective", "seed")}
            making.run.parameters(trained)
            job = EvaluationJob(
                model=tuned.path,
                base=base.path,
                dataset=walks.path,
                utterances=read.path,
                ranked=ranked.path,
                speakers=walks.settings["speakers"],
                provenance=provenance(trained, [tuned, base, walks, ranked, read, corpus]),
            )
            result = evaluate(
                job,
                making.folder,
                making.settings,
                progress=lambda what, done, total: context.log.info(f"{what}: {done} of {total}"),
            )
            registered = json.loads((tuned.path / REGISTERED).read_text())
            publish(making, result.metrics(), headline_table(result).markdown(), model=registered["logged_model_id"])
        return making.result()

    return evaluation


top_2_evaluation = evaluation_asset("top-2")
random_walk_evaluation = evaluation_asset("random-walk")


@dg.asset(
    group_name="evaluation",
    deps=[top_2_evaluation, random_walk_evaluation],
    kinds={"mlflow"},
    code_version=code_version("evaluation"),
)
def comparison(
    context: dg.AssetExecutionContext, config: SettingsConfig[ComparisonSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """Both models and their base side by side, paired where they answered the same cases."""
    from adc_pipeline.evaluation.compare import compare
    from adc_pipeline.evaluation.tables import comparison_table

    with workspace.materializing(context, config) as making:
        names: dict[str, str] = {
            kind: f"{dataset.key.to_user_string()}_evaluation" for kind, (dataset, _) in EVALUATED.items()
        }
        folders = {kind: making.input(name).path for kind, name in names.items()}
        if making.unchanged():
            return making.result()
        result = compare(folders, making.folder, making.settings)
        publish(making, result.metrics(), comparison_table(result).markdown())
    return making.result()


def provenance(trained: Mapping[str, Any], artefacts: Sequence[Artefact]) -> dict[str, str]:
    """What was trained, the digest and settings of all that it and its evaluation came from, and what computed it."""
    told = {name: str(value) for name, value in trained.items()}
    for artefact in artefacts:
        told[f"{artefact.name}: digest"] = artefact.digest
        told |= {f"{artefact.name}: {name}": str(value) for name, value in flattened(artefact.settings).items()}
    told["version of Python"] = platform.python_version()
    return told | {f"version of {name}": version(name) for name in ("torch", "transformers", "duckdb")}


def publish(
    making: Materialization[Any],
    metrics: dict[str, float | None],
    table: str,
    below: str = "",
    model: str | None = None,
) -> None:
    """Figures, report and plots for MLflow and Dagster.

    The report lies `below` the artefact's own folder; `model` is the logged model that the figures are about.
    """
    folder = making.folder / below
    known = {name: value for name, value in metrics.items() if value is not None}
    making.run.metrics(known, model=model)
    making.metadata |= {name: known[name] for name in HEADLINES if name in known}
    making.run.files(folder)
    making.metadata["figures"] = dg.MetadataValue.md(table)
    making.metadata["report"] = dg.MetadataValue.path(str(making.store.place(making.name) / below / "report.html"))
    for plot in sorted(folder.glob("*.png")):
        making.metadata[plot.stem] = picture(plot.read_bytes(), plot.stem)


def perplexity_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    name = asset.key.to_user_string()

    @dg.asset_check(asset=asset, name="learned_something", blocking=True)
    def learned_something(workspace: Workspace) -> dg.AssetCheckResult:
        """Held-out perplexity is finite and below the base model's."""
        from adc_pipeline.evaluation.evaluation import Evaluation

        result = Evaluation.read(workspace.store.current(name).path)
        ours, base = result.model["perplexity"].value, result.base["perplexity"].value
        why = None
        if ours is None or base is None:
            why = "No conversation of the test split could be asked about: give it a larger share (`shares`)."
        elif not result.learned_something():
            why = (
                f"Held-out perplexity is {ours:,.2f}, not below the base model's {base:,.2f}: train longer, or slower."
            )
        return dg.AssetCheckResult(
            passed=why is None, description=why, metadata={"perplexity": ours, "base.perplexity": base}
        )

    return learned_something


checks = [perplexity_check(asset) for asset in (top_2_evaluation, random_walk_evaluation)]
