"""Dagster's view of the study: its cells as partitions, and the result over those that have been made."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import dagster as dg

from adc_pipeline.core.artefacts import Artefact, Store
from adc_pipeline.core.code_version import code_version
from adc_pipeline.defs.corpus import utterances
from adc_pipeline.defs.evaluation import provenance, publish
from adc_pipeline.defs.ranking import ranked_replies
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.training import TRAINING_POOL, base_model, check_same_markers, fine_tune
from adc_pipeline.defs.walks import random_walk, top_2
from adc_pipeline.defs.workspace import Workspace, picture
from adc_pipeline.evaluation.settings import ComparisonSettings, EvaluationSettings
from adc_pipeline.study.cells import CODE_VERSION, comparable, inputs_of, shared_settings, walks_of
from adc_pipeline.study.grid import SEEDS, VARIANTS, VARIED, cell_name
from adc_pipeline.training.settings import TrainingJob, TrainingSettings

CELLS = dg.MultiPartitionsDefinition(
    {"variant": dg.StaticPartitionsDefinition(list(VARIANTS)), "seed": dg.StaticPartitionsDefinition(list(SEEDS))}
)


@dg.asset(
    group_name="study",
    deps=[top_2, random_walk, base_model, utterances, ranked_replies],
    partitions_def=CELLS,
    kinds={"pytorch", "mlflow"},
    pool=TRAINING_POOL,
    code_version=CODE_VERSION,
)
def study_cell(
    context: dg.AssetExecutionContext,
    config: SettingsConfig[TrainingSettings],
    workspace: Workspace,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """One model of the study, trained and evaluated; its evidence is kept, its weights are not.

    The partition decides objective, markers, verdicts and seed; the other settings are those of every cell.
    """
    from adc_pipeline.evaluation.evaluate import EvaluationJob, evaluate
    from adc_pipeline.evaluation.tables import headline_table

    # Started by a tag, as from the command line, a run's key is plain text.
    key = CELLS.get_partition_key_from_str(context.partition_key).keys_by_dimension
    variant, seed = key["variant"], key["seed"]
    cell, name = VARIANTS[variant], cell_name(variant, seed)
    varied = asdict(cell.settings(TrainingSettings(), int(seed)))
    own = {each: varied[each] for each in VARIED}
    with workspace.materializing(context, config.model_copy(update=own), name) as making:
        read = inputs_of(workspace.store, cell)
        for each, artefact in read.items():
            making.input(each, artefact.digest)
        if making.unchanged():
            return making.result()
        base, walks = read["base_model"], read[cell.evaluated_on]
        for dataset in (read["top_2"], read["random_walk"]):
            check_same_markers(dataset, workspace.store.version("top_2", base.inputs["top_2"]))
        trained = {"dataset": cell.source, "base_model": base.settings["name"]}
        making.run.parameters(trained)
        learned = walks_of(cell, read["top_2"].path, read["random_walk"].path, making.folder / "walks")
        model, work = making.folder / "model", workspace.store.home / "work" / name
        fine_tune(context, pipes, making, TrainingJob(making.settings, learned, base.path, model, work))
        facts = json.loads((model / "training.json").read_text())
        making.count({key: fact for key, fact in facts.items() if isinstance(fact, int | float)})
        evidence = making.folder / "evaluation"
        evidence.mkdir()
        job = EvaluationJob(
            model=model,
            base=base.path,
            dataset=walks.path,
            utterances=read["utterances"].path,
            ranked=read["ranked_replies"].path,
            speakers=walks.settings["speakers"],
            provenance=provenance(trained | own, origins(workspace.store, read)),
            score_cache=workspace.store.home / "work" / "study_cell" / "base_scores",
        )
        result = evaluate(
            job,
            evidence,
            EvaluationSettings(),
            progress=lambda what, done, total: context.log.info(f"{what}: {done} of {total}"),
        )
        publish(making, result.metrics(), headline_table(result).markdown(), evidence.name)
        (model / "training.json").rename(evidence / "training.json")
        for folder in (model, making.folder / "walks", work):
            shutil.rmtree(folder, ignore_errors=True)
    return making.result()


@dg.asset(group_name="study", deps=[study_cell], kinds={"mlflow"}, code_version=code_version("study"))
def study_table(
    context: dg.AssetExecutionContext, config: SettingsConfig[ComparisonSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """What the cells that have been made say together: a table, a page of plots, and what may be concluded."""
    from adc_pipeline.study.page import write_results

    with workspace.materializing(context, config) as making:
        names = {cell_name(variant, seed): (variant, int(seed)) for variant in VARIANTS for seed in SEEDS}
        made, left_out = comparable(workspace.store, names)
        for name in made:
            making.input(name)
        # No inputs, and said in the result.
        if making.unchanged({"left_out": left_out}):
            return making.result()
        folders = {names[name]: cell.path / "evaluation" for name, cell in made.items()}
        told = provenance_of(workspace.store, list(made.values())) if made else {}
        text = write_results(folders, making.folder, making.settings, left_out, told)
        missing = len(names) - len(made) - len(left_out)
        making.count({"cells": len(made), "cells.missing": missing, "cells.left_out": len(left_out)})
        making.run.files(making.folder)
        making.metadata["result"] = dg.MetadataValue.md(text)
        for plot in sorted(Path(making.folder).glob("*.png")):
            making.metadata[plot.stem] = picture(plot.read_bytes(), plot.stem)
    return making.result()


def origins(store: Store, read: Mapping[str, Artefact]) -> list[Artefact]:
    """What a cell is made of, and the corpus behind it."""
    return [*read.values(), store.version("raw_corpus", read["utterances"].inputs["raw_corpus"])]


def provenance_of(store: Store, cells: Sequence[Artefact]) -> dict[str, str]:
    """What all cells have in common, their seeds, and the libraries that they, not this table, were made with."""
    shared = {f"every cell: {key}": value for key, value in shared_settings(cells[0]).items()}
    seeds = ", ".join(map(str, sorted({cell.settings["seed"] for cell in cells})))
    read = {key: store.version(key, digest) for key, digest in cells[0].inputs.items()}
    facts = [json.loads((cell.path / "evaluation" / "training.json").read_text()) for cell in cells]
    versions = {
        f"version of {name}": ", ".join(sorted({each["versions"][name] for each in facts}))
        for name in facts[0]["versions"]
    }
    return provenance({"seeds": seeds} | shared, origins(store, read)) | versions
