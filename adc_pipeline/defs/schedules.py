"""The schedules: rebuild everything weekly, rebuild the datasets nightly, prune old artefacts weekly. Off by default.

Time zone and cron expressions are read when Dagster loads the code, the run configuration at each tick.
"""

import dagster as dg

from adc_pipeline.core.artefacts import Store
from adc_pipeline.defs.automation import read_automation, read_run_config


def schedule(name: str, job: str, cron: str, time_zone: str, description: str) -> dg.ScheduleDefinition:
    """Return a schedule of a job, with the run configuration that `automation.yaml` names."""

    def run_config(context: dg.ScheduleEvaluationContext) -> dict[str, object]:
        home = Store.from_environment().home
        return read_run_config(home, read_automation(home))

    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=time_zone,
        run_config_fn=run_config,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )


settings = read_automation(Store.from_environment().home)
weekly = schedule(
    "weekly", "adc", settings.weekly, settings.time_zone, "Rebuilds everything, by default on Mondays at 03:00."
)
nightly = schedule(
    "nightly", "datasets", settings.nightly, settings.time_zone, "Rebuilds the datasets, by default daily at 04:00."
)
prune_weekly = schedule(
    "prune_weekly",
    "prune",
    settings.prune,
    settings.time_zone,
    "Lists old artefacts, by default on Mondays at 06:00, and removes them if `delete` is set.",
)
schedules = [weekly, nightly, prune_weekly]
