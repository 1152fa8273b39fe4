"""The jobs, each a selection of assets."""

import dagster as dg

DATASETS = dg.AssetSelection.groups("corpus", "ranking", "walks")
STUDY = dg.AssetSelection.groups("study")

# Tag of runs that write the same assets; the run queue starts one of them at a time (dagster.yaml).
WRITES = {"adc/writes": "places"}

adc = dg.define_asset_job(
    "adc",
    selection=dg.AssetSelection.all() - STUDY,
    description="Everything, from the raw corpus to the comparison of all models and the champions.",
    tags=WRITES,
)
datasets = dg.define_asset_job(
    "datasets",
    selection=DATASETS,
    description="From the raw corpus to the walk datasets.",
    tags=WRITES,
)
study = dg.define_asset_job(
    "study",
    selection=dg.AssetSelection.assets("study_cell"),
    description="A cell of the study: a model, trained and evaluated. Run all partitions for the whole grid.",
)
study_inputs = dg.define_asset_job(
    "study_inputs",
    selection=DATASETS | dg.AssetSelection.assets("base_model"),
    description="The inputs of every cell of the study: the walk datasets and the base model.",
    tags=WRITES,
)
study_result = dg.define_asset_job(
    "study_result",
    selection=dg.AssetSelection.assets("study_table"),
    description="The result of the study, a table and a page, from the cells that have been made.",
)
jobs = [adc, datasets, study_inputs, study, study_result]
