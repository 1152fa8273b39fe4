"""Sensors that tell somebody: of a run that failed, of one that is late, and of checks that did not pass.

They are on where `automation.yaml` names a receiver, and off otherwise. A message that cannot be sent is an error of
the tick, which Dagster shows under *Automation*.
"""

import json
import os
import time
from collections.abc import Iterator

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.defs.automation.settings import NOT_ENDED, Automation, AutomationSettings
from adc_pipeline.defs.failures import reason
from adc_pipeline.lifecycle.messages import Receivers

SECONDS_BETWEEN_LOOKS = 600
NOBODY = "automation.yaml names neither `webhook` nor `mail_to`."


def receivers_of(settings: AutomationSettings) -> Receivers:
    return Receivers(
        settings.webhook, settings.mail_to, settings.mail_from, settings.mail_server, settings.mail_password
    )


def tell(subject: str, lines: list[str]) -> dg.SkipReason:
    """Send a message to the receivers of `automation.yaml` and return what the tick shows."""
    automation = Automation.load()
    receivers = receivers_of(automation.settings)
    if not receivers:
        return dg.SkipReason(automation.problem or NOBODY)
    try:
        receivers.send(subject, "\n".join(lines))
    except PipelineError as error:
        raise dg.Failure(f"{subject}, and this could not be told: {error}") from error
    return dg.SkipReason(f"Told {' and '.join(filter(None, [receivers.webhook, *receivers.mail_to]))}: {subject}.")


def called(run: dg.DagsterRun) -> str:
    """Return how a message names a run."""
    return f"run {run.run_id[:8]} of {'assets' if run.job_name.startswith('__') else run.job_name}"


def failures(instance: dg.DagsterInstance, run: str) -> Iterator[str]:
    """Yield the sentence of each step of a run that failed."""
    for entry in instance.all_logs(run, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event and event.step_failure_data:
            yield f"{event.step_key}: {reason(event)}"


def warnings_of(instance: dg.DagsterInstance, run: str) -> Iterator[str]:
    """Yield a line for each check of a run that did not pass."""
    for entry in instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        if entry.dagster_event and not (check := entry.dagster_event.asset_check_evaluation_data).passed:
            yield f"{check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'not passed'}"


def messages(automation: Automation) -> list[dg.SensorDefinition]:
    """Return the sensors that send messages, running if a receiver is named."""
    settings = automation.settings
    on = bool(receivers_of(settings))
    status = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
    # Where the variable is not set, its name may be the secret itself.
    webhook = settings.webhook if settings.webhook in os.environ else settings.webhook and "a variable that is not set"
    to = " and ".join(filter(None, [webhook, *settings.mail_to])) if on else f"nobody: {NOBODY}"
    if automation.problem:
        to += f". To be corrected: {automation.problem}"

    @dg.run_failure_sensor(name="failed_runs", default_status=status, description=f"Tells of failed runs. Tells {to}")
    def failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        run = context.dagster_run
        lines = list(dict.fromkeys(failures(context.instance, run.run_id))) or [context.failure_event.message or ""]
        return tell(f"adc: {called(run)} failed", lines)

    @dg.run_status_sensor(
        dg.DagsterRunStatus.SUCCESS,
        name="warned_runs",
        default_status=status,
        description=f"Tells of checks that did not pass in a run that succeeded. Tells {to}",
    )
    def warned_runs(context: dg.RunStatusSensorContext) -> dg.SkipReason:
        run = context.dagster_run
        lines = list(warnings_of(context.instance, run.run_id))
        if not lines:
            return dg.SkipReason("Every check passed.")
        return tell(f"adc: {called(run)} warns", lines)

    @dg.sensor(
        name="late_runs",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=status,
        description=f"Tells once of each run that has not ended after late_hours. Tells {to}",
    )
    def late_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        hours = Automation.load().settings.late_hours
        told = told_before(context.cursor or "[]")
        late, lines = [], []
        for record in context.instance.get_run_records(dg.RunsFilter(statuses=NOT_ENDED)) if hours else []:
            run, age = record.dagster_run, (time.time() - record.create_timestamp.timestamp()) / 3600
            if hours and age > hours:
                late.append(run.run_id)
                if run.run_id not in told:
                    lines.append(f"{called(run)}: {run.status.value} since {age:.0f} hours")
        said = tell("adc: runs are late", lines) if lines else dg.SkipReason("No run has become late.")
        context.update_cursor(json.dumps(sorted(late)))
        return said

    return [failed_runs, warned_runs, late_runs]


def told_before(cursor: str) -> set[str]:
    """Return the runs in a cursor; none if another release wrote it."""
    try:
        return set(json.loads(cursor))
    except (ValueError, TypeError):
        return set()
