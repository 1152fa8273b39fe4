"""The assets of the study: its cells, one partition each, and the result of the cells that have been made."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dagster as dg

from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.core.settings import Settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.asset import declare, declare_for_job
from adc_pipeline.defs.assets.evaluation import evaluation_job, provenance, publish
from adc_pipeline.defs.assets.training import check_same_markers, fine_tune, record_training
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import TRAINING_POOL, Stage
from adc_pipeline.evaluation.headlines import HEADLINES
from adc_pipeline.study.cells import (
    CODE,
    INPUTS,
    READS,
    comparable,
    initial_model,
    inputs_of,
    shared_settings,
    walks_of,
)
from adc_pipeline.study.grid import GRID_SEEDS, SEEDS, VARIANTS, VARIED, Variant, cell_name
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.training.launching.tools import check_tools, files_of
from adc_pipeline.training.settings import PREFERENCES, TrainingJob
from adc_pipeline.training.texts.facts import FACTS
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.learnable import not_taught

GROUP = "study"
CELLS = dg.MultiPartitionsDefinition(
    {"variant": dg.StaticPartitionsDefinition(list(VARIANTS)), "seed": dg.StaticPartitionsDefinition(list(SEEDS))}
)


def cell_of(partition: str) -> tuple[Variant, str]:
    """Return the variant and the seed of a partition's key, given as plain text."""
    key = CELLS.get_partition_key_from_str(partition).keys_by_dimension
    return VARIANTS[key["variant"]], key["seed"]


def partition_name(partition: str) -> str:
    """Return the part of a cell's artefact name after `study_cell/`."""
    variant, seed = cell_of(partition)
    return cell_name(variant.name, seed).partition("/")[2]


def cell_settings(settings: CellSettings, partition: str | None) -> CellSettings:
    """Return the settings of a cell: the partition decides objective, markers, verdicts and seed."""
    variant, seed = cell_of(partition or "")
    return variant.settings(settings, int(seed))


def make_cell(making: Making[CellSettings]) -> None:
    variant, _ = cell_of(making.request.context.partition_key)
    prepared = making.inputs["base_model"]
    datasets = {kind.name: making.inputs[kind.dataset] for kind in KINDS.values()}
    for dataset in datasets.values():
        check_same_markers(dataset, making.store, prepared)
    making.run.parameters({"dataset": variant.source, "base_model": prepared.settings["name"]})
    base, model = train_cell(making, variant, datasets)
    evaluate_cell(making, variant, datasets, base, model)
    # The evidence is kept, the weights are not.
    work = making.store.home / "work" / making.request.name
    for folder in (*(making.folder / name for name in ("base", "first", "model", "second", "walks")), work):
        shutil.rmtree(folder, ignore_errors=True)


def train_cell(making: Making[CellSettings], variant: Variant, datasets: Mapping[str, Artefact]) -> tuple[Path, Path]:
    """Return the folders of the model that the cell's model is compared with, and of the cell's model.

    The former is the model before its last stage where that learns preferences, which are compared with it, and
    otherwise the initial one.
    """
    from adc_pipeline.study.second_round import write_second_round

    initial = initial_model(making.inputs["base_model"], making.settings.seed, making.folder / "base")
    folders = {kind: artefact.path for kind, artefact in datasets.items()}
    training_walks = walks_of(variant, folders, making.folder / "walks")
    model, work = making.folder / "model", making.store.home / "work" / making.request.name
    *before, last = making.settings.stages
    start = initial
    for stage in before:
        start = making.folder / "first"
        fine_tune(making, TrainingJob(stage, training_walks, initial, start, work / "first"), logged=False)
    if variant.second_round != "none":
        own, training_walks = datasets[variant.source], making.folder / "second"
        write_second_round(
            variant.second_round,
            start,
            own.path,
            making.inputs["judge"].path,
            own.settings,
            replace(making.settings.evaluation, max_context_tokens=making.settings.sequence_length),
            making.settings.seed,
            training_walks,
        )
    fine_tune(making, TrainingJob(last, training_walks, start, model, work))
    facts = read_record(model / FACTS)
    if before:
        first = read_record(start / FACTS)
        facts |= {name: first[name] + facts[name] for name in ("steps", "tokens")}
        write_record(model / FACTS, facts)
    record_training(making, facts)
    return start if variant.objective in PREFERENCES else initial, model


def evaluate_cell(
    making: Making[CellSettings], variant: Variant, datasets: Mapping[str, Artefact], base: Path, model: Path
) -> None:
    """Write the evaluation of `model` beside `base` into the cell's folder `evaluation`, and publish it."""
    from adc_pipeline.evaluation.evaluate import evaluate
    from adc_pipeline.evaluation.presentation.small_picture import headline_series
    from adc_pipeline.evaluation.presentation.tables import short_table

    evidence = making.folder / "evaluation"
    evidence.mkdir()
    settings = asdict(making.settings)
    trained = {"dataset": variant.source, "base_model": making.inputs["base_model"].settings["name"]}
    trained |= {each: settings[each] for each in VARIED}
    learned = (sentence for name in variant.trained_on for sentence in not_taught(datasets[name].counts))
    # A reference that was trained belongs to its cell, and no other asks it.
    shared = base != making.folder / "first"
    job = replace(
        evaluation_job(making, datasets[variant.evaluated_on], model, base, trained),
        shortcomings=tuple(dict.fromkeys(learned)),
        score_cache=making.store.home / "work" / "study_cell" / "base_scores" if shared else None,
    )
    result = evaluate(job, evidence, making.settings.evaluation, making.progress)
    table = short_table(result).markdown()
    publish(making, result.metrics(), HEADLINES, table, headline_series(result), evidence.name)
    (model / FACTS).rename(evidence / FACTS)


study_cell = declare_for_job(
    Stage(
        name="study_cell",
        place="study/cells",
        group=GROUP,
        description="A model of the study, trained and evaluated. The evaluation is kept, the weights are not. The"
        " partition decides objective, markers, verdicts and seed; the other settings hold for every cell.",
        settings=CellSettings,
        make=make_cell,
        code=CODE,
        inputs=INPUTS,
        reads=READS,
        choose=inputs_of,
        kinds=("pytorch", "mlflow"),
        unhashed=(FACTS,),
        complete=cell_settings,
        outside=lambda request: files_of(request.settings),
        check=check_tools,
        pool=TRAINING_POOL,
        partitions=CELLS,
        partition_name=partition_name,
    )
)

NAMES = {cell_name(variant, seed): (variant, int(seed)) for variant in VARIANTS for seed in SEEDS}


def comparable_cells(store: Store) -> Mapping[str, Artefact]:
    return comparable(store, NAMES)[0]


def excluded_cells(request: Request[Settings]) -> Mapping[str, Any]:
    """Return the cells that are not comparable, each with the reason, which the result reports."""
    return {"left_out": comparable(request.store, NAMES)[1]}


def make_table(making: Making[Settings]) -> None:
    from adc_pipeline.study.page import write_results

    made, left_out = making.inputs, making.outside["left_out"]
    folders = {NAMES[name]: cell.path / "evaluation" for name, cell in made.items()}
    facts = provenance_of(making.store, list(made.values())) if made else {}
    text = write_results(folders, making.folder, left_out, facts)
    missing = len({cell_name(variant, seed) for variant in VARIANTS for seed in GRID_SEEDS} - {*made, *left_out})
    making.count({"cells": len(made), "cells.missing": missing, "cells.left_out": len(left_out)})
    making.log_files(making.folder)
    making.metadata["result"] = dg.MetadataValue.md(text)
    making.show_plots(making.folder)


study_table = declare(
    Stage(
        name="study_table",
        place="study/result",
        group=GROUP,
        description="The result of the cells that have been made: a table, a page of plots, and conclusions.",
        settings=Settings,
        make=make_table,
        code=(__name__,),
        inputs=("study_cell",),
        reads=("study_cell",),
        kinds=("mlflow",),
        choose=comparable_cells,
        outside=excluded_cells,
    )
)


def origins(store: Store, cell: Artefact) -> list[Artefact]:
    """Return the inputs of a cell and its raw corpus, with the settings that the cell was made by."""
    digests = dict(cell.inputs)
    digests["raw_corpus"] = store.version("utterances", digests["utterances"]).inputs["raw_corpus"]
    return [replace(store.version(name, digests[name]), settings=cell.upstream_settings[name]) for name in READS]


def provenance_of(store: Store, cells: Sequence[Artefact]) -> dict[str, str]:
    """Return the settings, inputs and seeds of the cells, and the versions of the libraries that made them."""
    shared = {f"every cell: {key}": value for key, value in shared_settings(cells[0]).items()}
    seeds = ", ".join(map(str, sorted({cell.settings["seed"] for cell in cells})))
    facts = [read_record(cell.path / "evaluation" / FACTS, versions=dict) for cell in cells]
    versions = {
        f"version of {name}": ", ".join(sorted({each["versions"][name] for each in facts}))
        for name in facts[0]["versions"]
    }
    return provenance({"seeds": seeds} | shared, origins(store, cells[0])) | versions
