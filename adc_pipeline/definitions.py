"""What Dagster loads: every asset, check, job and schedule of the pipeline.

dagster job execute -m adc_pipeline.definitions -j adc
"""

import dagster as dg

from adc_pipeline.corpus import assets as corpus
from adc_pipeline.ranking import assets as ranking
from adc_pipeline.resources import Workspace
from adc_pipeline.walks import assets as walks

DATASETS = dg.AssetSelection.groups("corpus", "ranking", "walks")

datasets = dg.define_asset_job(
    "datasets", selection=DATASETS, description="From the raw corpus to both datasets of walks."
)

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([corpus, ranking, walks]),
    asset_checks=[*dg.load_asset_checks_from_modules([corpus, ranking]), *walks.checks],
    jobs=[datasets],
    resources={"workspace": Workspace()},
    # One process: each further one would import the code location again, and the stages that could run side
    # by side share the same cores anyway.
    executor=dg.in_process_executor,
)
