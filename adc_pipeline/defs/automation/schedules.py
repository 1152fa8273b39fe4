"""The schedules: rebuild everything weekly, rebuild the datasets nightly, prune weekly. Off by default.

Time zone and cron expressions are read when Dagster loads the code, the run configuration at each tick.
"""

import dagster as dg

from adc_pipeline.defs.automation.jobs import assets_of_jobs
from adc_pipeline.defs.automation.settings import Automation
from adc_pipeline.defs.pruning import prune

# What each job of a schedule or a sensor makes.
MADE = {prune.name: [], **{name: sorted(assets) for name, assets in assets_of_jobs().items()}}


def schedule(name: str, job: str, cron: str, time_zone: str, description: str) -> dg.ScheduleDefinition:
    """Return a schedule of a job, with the run configuration that `automation.yaml` names."""

    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        automation = Automation.load()
        if refusal := automation.refusal(MADE[job], context.instance):
            return dg.SkipReason(refusal)
        context.log.info(f"Starts the job {job}, since it is time ({cron}, {time_zone}). {used(automation, job)}")
        return dg.RunRequest(run_config=automation.run_config, tags={"adc/cause": f"schedule {name}"})

    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=time_zone,
        execution_fn=tick,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"{description} {used(Automation.load(), job)}",
    )


def used(automation: Automation, job: str) -> str:
    """Return what a run of a job would use."""
    if job != prune.name or automation.problem:
        return automation.describe(MADE[job])
    return "Uses the settings of prune.yaml."


settings = Automation.load().settings
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
    "Removes old artefacts and runs that prune.yaml permits, by default on Mondays at 06:00.",
)
schedules = [weekly, nightly, prune_weekly]
