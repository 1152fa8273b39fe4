"""The markers, and how user text is kept from looking like one.

A marker is control, never content. A text in which a user wrote a marker's string keeps its words but
loses the angle brackets (`<rejected>` becomes `‹rejected›`), so that splitting a walk at the marker
strings gives back exactly its parts. The format `released` reproduces published data byte for byte and
therefore leaves texts as they are; there, and for every other special token, the tokenization is what
keeps a text from forging a verdict (`adc_pipeline.training.tokens`).
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
    """What stands in a text where a user wrote `marker`: the same word between ‹ and ›."""
    return "‹" + marker[1:-1] + "›"
