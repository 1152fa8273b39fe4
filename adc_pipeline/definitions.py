"""What Dagster loads: every asset, check, job, schedule and sensor of the pipeline.

dagster job execute -m adc_pipeline.definitions -j adc
"""

import os
from datetime import timedelta

import dagster as dg

from adc_pipeline.defs import champions as promotion
from adc_pipeline.defs import corpus as corpus
from adc_pipeline.defs import evaluation as evaluation
from adc_pipeline.defs import ranking as ranking
from adc_pipeline.defs import study as study_stage
from adc_pipeline.defs import training as training
from adc_pipeline.defs import walks as walks
from adc_pipeline.defs.jobs import jobs
from adc_pipeline.defs.pruning import prune
from adc_pipeline.defs.schedules import schedules
from adc_pipeline.defs.sensors import STALE, sensors, stale_assets
from adc_pipeline.defs.workspace import Workspace

# The evaluation runs in this process; why this, stands in `training/__main__.py`.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

# Both schedules off, an asset not made for so long has been forgotten.
EVERY_WEEK = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))


def kept_up(spec: dg.AssetSpec) -> dg.AssetSpec:
    """An asset with what holds for all of the pipeline: when it is stale, and when overdue; the study's are neither."""
    if spec.group_name == "study":
        return spec
    # The corpus is made of nothing here: whether it is stale, the sensor of the corpus says.
    condition = STALE if spec.deps and stale_assets in sensors else None
    return spec.replace_attributes(automation_condition=condition, freshness_policy=EVERY_WEEK)


loaded = dg.load_assets_from_modules([corpus, ranking, walks, training, evaluation, promotion, study_stage])
assets = [each for each in loaded if isinstance(each, dg.AssetsDefinition)]

defs = dg.Definitions(
    assets=dg.map_asset_specs(kept_up, assets),
    asset_checks=[*dg.load_asset_checks_from_modules([corpus, ranking]), *walks.checks, *evaluation.checks],
    jobs=[*jobs, prune],
    schedules=schedules,
    sensors=sensors,
    resources={"workspace": Workspace(), "pipes": dg.PipesSubprocessClient()},
    # One process: each further one would import the code location again, and the stages that could run side
    # by side share the same cores anyway.
    executor=dg.in_process_executor,
)
