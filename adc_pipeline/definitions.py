"""What Dagster loads: every asset, check, job and schedule of the pipeline.

dagster job execute -m adc_pipeline.definitions -j adc
"""

import os

import dagster as dg

from adc_pipeline.corpus import assets as corpus
from adc_pipeline.evaluation import assets as evaluation
from adc_pipeline.ranking import assets as ranking
from adc_pipeline.resources import Workspace
from adc_pipeline.study import assets as study_stage
from adc_pipeline.training import assets as training
from adc_pipeline.walks import assets as walks

DATASETS = dg.AssetSelection.groups("corpus", "ranking", "walks")
STUDY = dg.AssetSelection.groups("study")

# The evaluation runs in this process; why this, stands in `training/__main__.py`.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

adc = dg.define_asset_job(
    "adc",
    selection=dg.AssetSelection.all() - STUDY,
    description="Everything, from the raw corpus to the comparison of both models.",
)
datasets = dg.define_asset_job(
    "datasets", selection=DATASETS, description="From the raw corpus to both datasets of walks."
)

study = dg.define_asset_job(
    "study",
    selection=dg.AssetSelection.assets(study_stage.study_cell),
    description="One cell of the study: a model trained and evaluated; run all partitions for the whole grid.",
)
study_inputs = dg.define_asset_job(
    "study_inputs",
    selection=DATASETS | dg.AssetSelection.assets(training.base_model),
    description="What every cell of the study starts from: both datasets and the base model.",
)
study_result = dg.define_asset_job(
    "study_result",
    selection=dg.AssetSelection.assets(study_stage.study),
    description="The table and the page of the study, from the cells that have been made.",
)

weekly = dg.ScheduleDefinition(
    job=adc,
    name="weekly",
    cron_schedule="0 3 * * 1",
    description="Rebuilds everything on Monday at three; off until somebody turns it on.",
)

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([corpus, ranking, walks, training, evaluation, study_stage]),
    asset_checks=[*dg.load_asset_checks_from_modules([corpus, ranking]), *walks.checks, *evaluation.checks],
    jobs=[adc, datasets, study_inputs, study, study_result],
    schedules=[weekly],
    resources={"workspace": Workspace(), "pipes": dg.PipesSubprocessClient()},
    # One process: each further one would import the code location again, and the stages that could run side
    # by side share the same cores anyway.
    executor=dg.in_process_executor,
)
