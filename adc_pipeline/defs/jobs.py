"""The jobs: which assets are made together."""

import dagster as dg

DATASETS = dg.AssetSelection.groups("corpus", "ranking", "walks")
STUDY = dg.AssetSelection.groups("study")

# Runs that write the same places; the queue takes one of them at a time (dagster.yaml).
WRITES = {"adc/writes": "places"}

adc = dg.define_asset_job(
    "adc",
    selection=dg.AssetSelection.all() - STUDY,
    description="Everything, from the raw corpus to the comparison of both models.",
    tags=WRITES,
)
datasets = dg.define_asset_job(
    "datasets",
    selection=DATASETS,
    description="From the raw corpus to both datasets of walks.",
    tags=WRITES,
)
study = dg.define_asset_job(
    "study",
    selection=dg.AssetSelection.assets("study_cell"),
    description="One cell of the study: a model trained and evaluated; run all partitions for the whole grid.",
)
study_inputs = dg.define_asset_job(
    "study_inputs",
    selection=DATASETS | dg.AssetSelection.assets("base_model"),
    description="What every cell of the study starts from: both datasets and the base model.",
    tags=WRITES,
)
study_result = dg.define_asset_job(
    "study_result",
    selection=dg.AssetSelection.assets("study_table"),
    description="The table and the page of the study, from the cells that have been made.",
)
jobs = [adc, datasets, study_inputs, study, study_result]
