"""Why a step failed, or a run outside of its steps, as a sentence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterEvent

OF_SQLITE = ("sqlite3.", "sqlalchemy.exc.")
REPAIR = "check the disk and this user's rights, and run `adc repair` if it is damaged"


def reason(event: "DagsterEvent") -> str:
    """Return why a step or a run failed: the pipeline's own sentence, otherwise the error that was raised."""
    told = event.step_failure_data.user_failure_data if event.is_step_failure else None
    if told and told.description:
        return told.description
    error = event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    said = error.message.strip() if error else "The run has failed without an error."
    if said.startswith(OF_SQLITE):
        # MLflow's errors are sentences already: Dagster could not write an event between the parts of a step.
        return f"A database of Dagster cannot be used ({said.splitlines()[0].partition(': ')[2]}): {REPAIR}."
    return said
