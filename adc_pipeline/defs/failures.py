"""Why a step failed, as a sentence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterEvent


def reason(event: "DagsterEvent") -> str:
    """Return why a step failed: the pipeline's own sentence, otherwise the error that was raised."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "The step has failed without an error."
