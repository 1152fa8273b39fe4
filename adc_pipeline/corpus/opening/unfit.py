"""Errors for a path that is no corpus, or not one that could be read whole."""

from pathlib import Path

from adc_pipeline.core.errors import PipelineError


def names(found: set[str]) -> str:
    """Return the first twelve of some keys as text; nested ones are left to their parents."""
    return ", ".join(sorted(name for name in found if "." not in name)[:12])


class UnfitError(PipelineError):
    """A file that can be opened and is no corpus; `reason` says what it is, as the end of a sentence.

    A `companion` often lies beside a corpus, and is no reason to doubt it.
    """

    def __init__(self, sentence: str, reason: str = "", companion: bool = False) -> None:
        super().__init__(sentence)
        self.reason, self.companion = reason, companion


class LostRecordsError(PipelineError):
    """A file with utterances that would be lost; a folder does not pass it over as it does a file without any."""


def unfit(path: Path, what: str) -> UnfitError:
    """Return the error for a path that is no corpus, where a look at it does not tell what to do."""
    return UnfitError(
        f"{path} {what}: give the setting corpus (or ADC_CORPUS) a ConvoKit corpus, a dump of Reddit or a table, or"
        " say what it is by the setting format.",
        what,
    )


def in_other_encoding(path: Path, encoding: str) -> UnfitError:
    """Return the error for text in an encoding that is none of Unicode's, as `readers.text_lines` tells it."""
    return refused(path, f"is not in UTF-8 but in {encoding}: save it as UTF-8")


def refused(path: Path, what: str, companion: bool = False) -> UnfitError:
    """Return the error for a path of a known kind; `what` names it and, behind a colon, what to do."""
    return UnfitError(f"{path}, which the setting corpus names, {what}.", what.partition(":")[0], companion)
