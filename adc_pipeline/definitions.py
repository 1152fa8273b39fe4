"""What Dagster loads: every asset, check, job, schedule and sensor of the pipeline.

dagster job execute -m adc_pipeline.definitions -j adc
"""

import atexit
import gc
import os
import sys
from datetime import timedelta

import dagster as dg

from adc_pipeline.core.threads import wait_briefly
from adc_pipeline.defs.asset import ASSETS
from adc_pipeline.defs.assets import lifecycle, months, study
from adc_pipeline.defs.automation.jobs import jobs
from adc_pipeline.defs.automation.schedules import schedules
from adc_pipeline.defs.automation.sensors import STALE, sensors
from adc_pipeline.defs.console import CONSOLE, adjust_log_records
from adc_pipeline.defs.pruning import prune
from adc_pipeline.defs.publishing import publish
from adc_pipeline.defs.workspace import Mlflow, Shards, Training, Workspace

# The garbage collector would look again and again at what was imported, which takes a tenth of a short job's CPU time,
# and once more at everything when the interpreter ends, which takes another.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)

# Python looks for modules in the working directory first, so that a file random.py there would end each process that a
# run starts.
os.environ.setdefault("PYTHONSAFEPATH", "1")

# The evaluation runs in this process.
wait_briefly()

# Progress bars are for terminals; in a log, each step of one is a line. Subprocesses inherit the variables; the second
# one is for transformers.
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
adjust_log_records()

# An asset that both schedules have missed for so long needs attention.
EVERY_WEEK = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))


def with_policies(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return an asset with the policies of the whole pipeline: when it is stale, when overdue.

    Those of partitions have none.
    """
    if spec.group_name in (study.GROUP, months.GROUP):
        return spec
    # The corpus has no upstream asset; the sensor `changed_corpus` tells whether it is stale.
    condition = STALE if spec.deps else None
    return spec.replace_attributes(automation_condition=condition, freshness_policy=EVERY_WEEK)


defs = dg.Definitions(
    assets=dg.map_asset_specs(with_policies, list(ASSETS.values())),
    asset_checks=lifecycle.CHECKS,
    jobs=[*jobs, prune, publish],
    schedules=schedules,
    sensors=sensors,
    loggers={CONSOLE: dg.colored_console_logger},
    resources={"workspace": Workspace(), "mlflow": Mlflow(), "shards": Shards(), "training": Training()},
    # One process: each further one would import the code location again, and stages that could run side by side
    # share the same cores.
    executor=dg.in_process_executor,
)
