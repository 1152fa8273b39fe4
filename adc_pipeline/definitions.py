"""What Dagster loads: every asset, check, job and schedule of the pipeline.

dagster job execute -m adc_pipeline.definitions -j adc
"""

import os

import dagster as dg

from adc_pipeline.corpus import assets as corpus
from adc_pipeline.evaluation import assets as evaluation
from adc_pipeline.ranking import assets as ranking
from adc_pipeline.resources import Workspace
from adc_pipeline.training import assets as training
from adc_pipeline.walks import assets as walks

DATASETS = dg.AssetSelection.groups("corpus", "ranking", "walks")

# The evaluation runs in this process; why this, stands in `training/__main__.py`.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

adc = dg.define_asset_job("adc", description="Everything, from the raw corpus to the comparison of both models.")
datasets = dg.define_asset_job(
    "datasets", selection=DATASETS, description="From the raw corpus to both datasets of walks."
)

weekly = dg.ScheduleDefinition(
    job=adc,
    name="weekly",
    cron_schedule="0 3 * * 1",
    description="Rebuilds everything on Monday at three; off until somebody turns it on.",
)

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([corpus, ranking, walks, training, evaluation]),
    asset_checks=[*dg.load_asset_checks_from_modules([corpus, ranking]), *walks.checks, *evaluation.checks],
    jobs=[adc, datasets],
    schedules=[weekly],
    resources={"workspace": Workspace(), "pipes": dg.PipesSubprocessClient()},
    # One process: each further one would import the code location again, and the stages that could run side
    # by side share the same cores anyway.
    executor=dg.in_process_executor,
)
