"""Why a step failed, as a sentence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterEvent

OF_SQLITE = ("sqlite3.", "sqlalchemy.exc.")
REPAIR = "check the disk and this user's rights, and run `adc repair` if it is damaged"


def reason(event: "DagsterEvent") -> str:
    """Return why a step failed: the pipeline's own sentence, otherwise the error that was raised."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    said = error.message.strip() if error else "The step has failed without an error."
    if said.startswith(OF_SQLITE):
        # MLflow's errors are sentences already: Dagster could not write an event between the parts of a step.
        return f"A database of Dagster cannot be used ({said.splitlines()[0].partition(': ')[2]}): {REPAIR}."
    return said
