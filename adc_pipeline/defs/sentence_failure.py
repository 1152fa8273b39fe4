"""The end of a step that a sentence explains, a failure or a cancellation, without a stack trace.

Dagster records where a `Failure` was raised, for the step and once more for the run, and its page shows both traces
below the sentence. Of an error from another process it records the description that this error brings along; the
errors here bring one without a stack.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo


class SentenceFailure(DagsterUserCodeProcessError, dg.Failure):
    """A failure whose record in Dagster is the sentence alone; it is not retried."""

    def __init__(self, sentence: str, metadata: Mapping[str, Any]) -> None:
        # As Dagster writes a Failure: what reads its log looks for the name of the class.
        written = f"{dg.Failure.__module__}.{dg.Failure.__name__}: {sentence}"
        error = SerializableErrorInfo(written, [], dg.Failure.__name__)
        super().__init__(sentence, metadata=metadata, allow_retries=False, user_code_process_error_infos=[error])


class Cancelled(DagsterUserCodeProcessError, DagsterExecutionInterruptedError):
    """The interrupt of a step by a signal."""

    def __init__(self) -> None:
        error = SerializableErrorInfo("Cancelled by a signal.", [], DagsterExecutionInterruptedError.__name__)
        super().__init__(error.message, user_code_process_error_infos=[error])
