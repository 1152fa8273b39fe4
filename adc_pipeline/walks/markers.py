"""The marker strings of each format, and how a marker string that a user wrote is neutralised.

A marker is control, never content. Where a user's text contains a marker string, its angle brackets are replaced
(`<rejected>` becomes `‹rejected›`), so that splitting a walk at the marker strings restores exactly its parts. The
format `released` reproduces published data byte for byte and therefore leaves texts unchanged. There, and for every
other special token, the tokenization prevents a text from forging a verdict (`adc_pipeline.training.texts.tokens`).
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["accepted", "rejected"]
FormatName = Literal["default", "released"]


@dataclass(frozen=True)
class Markers:
    """The three marker strings of a format, in the order in which they are added to a tokenizer."""

    background: str
    rejected: str
    accepted: str

    def strings(self) -> tuple[str, str, str]:
        return (self.background, self.rejected, self.accepted)

    def of(self, verdict: Verdict) -> str:
        return self.accepted if verdict == "accepted" else self.rejected


FORMATS: dict[FormatName, Markers] = {
    "default": Markers("<background>", "<rejected>", "<accepted>"),
    "released": Markers("<BACKGROUND_INDEX_TOKEN>", "<REJECTED_UTTERANCE>", "<SELECTED_UTTERANCE>"),
}


def neutralised(marker: str) -> str:
    """Return what replaces a marker string that a user wrote: the same word between ‹ and ›, of the same length."""
    return "‹" + marker[1:-1] + "›"
