"""The schedules: everything every week, the datasets every night, old artefacts. Off until somebody turns them on.

The time zone and the hours are read when Dagster loads the code, the run configuration at each tick.
"""

import dagster as dg

from adc_pipeline.core.artefacts import Store
from adc_pipeline.defs.automation import read_automation, read_run_config


def schedule(name: str, job: str, cron: str, zone: str, says: str) -> dg.ScheduleDefinition:
    """A schedule of one job, with the run configuration that `automation.yaml` names."""

    def run_config(context: dg.ScheduleEvaluationContext) -> dict[str, object]:
        home = Store.from_environment().home
        assert context.repository_def is not None
        assets = {node.name for node in context.repository_def.get_job(job).nodes}
        return read_run_config(home, read_automation(home), assets)

    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=zone,
        run_config_fn=run_config,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=says,
    )


settings = read_automation(Store.from_environment().home)
weekly = schedule(
    "weekly", "adc", settings.weekly, settings.time_zone, "Rebuilds everything, Monday at three unless set."
)
nightly = schedule(
    "nightly", "datasets", settings.nightly, settings.time_zone, "Rebuilds the datasets, at four unless set."
)
prune_weekly = schedule(
    "prune_weekly",
    "prune",
    settings.prune,
    settings.time_zone,
    "Says which old artefacts are to go, Monday at six unless set; removes them if `delete` is set.",
)
schedules = [weekly, nightly, prune_weekly]
