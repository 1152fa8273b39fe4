"""The end of a step that a sentence explains, a failure or a cancellation, without a stack trace.

Dagster records where a `Failure` was raised, for the step and once more for the run, and its page shows both traces
below the sentence. Of an error from another process it records the description that this error brings along; the
errors here bring one without a stack.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from adc_pipeline.core.errors import PipelineError, is_disk_full, limit_of_system
from adc_pipeline.core.named_files import refused_by_system
from adc_pipeline.core.refused_writes import reason, refused_write
from adc_pipeline.defs.interrupts import interrupted_by_signals, remembered
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.tracking.failures import explanation


class SentenceFailure(DagsterUserCodeProcessError, dg.Failure):
    """A failure whose record in Dagster is the sentence alone; it is not retried."""

    def __init__(self, sentence: str, metadata: Mapping[str, Any]) -> None:
        # As Dagster writes a Failure: what reads its log looks for the name of the class.
        written = f"{dg.Failure.__module__}.{dg.Failure.__name__}: {sentence}"
        error = SerializableErrorInfo(written, [], dg.Failure.__name__)
        super().__init__(sentence, metadata=metadata, allow_retries=False, user_code_process_error_infos=[error])


class Cancelled(DagsterUserCodeProcessError, DagsterExecutionInterruptedError):
    """The interrupt of a step, by a signal unless `why` says otherwise."""

    def __init__(self, why: str = "Cancelled by a signal.") -> None:
        error = SerializableErrorInfo(why, [], DagsterExecutionInterruptedError.__name__)
        super().__init__(error.message, user_code_process_error_infos=[error])


def sentence_of(error: Exception, workspace: Workspace) -> tuple[str, Exception | None]:
    """Return the sentence for an error of the system or of MLflow, empty if there is none, and what may be shown of it.

    The errors of MLflow may show the tracking address.
    """
    home = workspace.store.home
    if is_disk_full(error):
        return f"The disk of ADC_HOME = {home} is full: make room, or point ADC_HOME to another disk.", error
    if sentence := limit_of_system(error):
        return sentence, error
    if found := explanation(error, workspace.tracking.uri, workspace.tracking.variable):
        return str(found), None
    if isinstance(error, OSError) and error.filename:
        return refused_by_system(error), error
    if refused := reason(refused_write(error, home)):
        return f"ADC_HOME = {home} cannot be used {refused}.", error
    return "", error


@contextmanager
def ends_as_sentence(workspace: Workspace) -> Iterator[None]:
    """End an op that makes no asset as an asset ends: with one sentence, or as cancelled by a signal."""
    try:
        with remembered(), interrupted_by_signals():
            yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        raise Cancelled from None
    except PipelineError as error:
        raise SentenceFailure(str(error), {}) from None
    except Exception as error:
        sentence, _ = sentence_of(error, workspace)
        if sentence:
            raise SentenceFailure(sentence, {}) from None
        raise
