"""What a model learned from, as `training.json` beside its weights says, and what therefore means nothing.

A model that read a verdict before its turn (`conditional`) is shown texts laid out that way, its own turn's
verdict included: bits per byte are then of a turn given its verdict, and in-context improvement compares
two such figures. After a turn it expects the next turn's marker, so nothing can be read there. A model that
never met a rejected turn (`filtering`) is asked about the same texts as every other model, rejected turns
included: its in-context improvement says what these, and a marker that it has never met either, are worth to it
when it was not taught to use them. A model whose markers were stripped is shown texts without any, and asked
about nothing that a marker tells.

Nor is a model asked further from the start of a text than the longest piece that it was trained on: at the places
behind it, it knows nothing, and in-context improvement, whose one side is always the longer, would measure that.

A figure without meaning is neither written nor drawn; the report gives the reason in its place.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adc_pipeline.evaluation.measures import Measured

REASONS = {
    "filtering": "the model was trained on texts without rejected turns, so that of rejected it holds what the base"
    " model did",
    "conditional": "the model learned texts in which a verdict stands before its turn, so that the marker after a turn"
    " is the next turn's",
}
STRIPPED = "the model was trained on texts in which a line break stands in place of every marker"


def told_alike(one: str, other: str) -> bool:
    """Whether bits per byte of two models may be compared, by where their markers stand.

    One that reads a turn's own verdict before the turn has been told more about it. A model without any markers is
    compared with one that reads them after their turns: what the markers of earlier turns are worth is the question.
    """
    return (one == "before") == (other == "before")


@dataclass(frozen=True)
class Learned:
    """The objective, where its markers stand, by measure why it is left out, and the longest piece in tokens."""

    objective: str = "mle"
    markers: Literal["after", "before", "none"] = "after"
    left_out: Mapping[str, str] = field(default_factory=dict)
    longest_piece: int | None = None

    @classmethod
    def read(cls, model: Path) -> "Learned":
        """From a model's folder; a model that this project did not train has read its markers after the turns."""
        try:
            facts = json.loads((model / "training.json").read_bytes())
        except FileNotFoundError:
            return cls()
        objective, markers = facts.get("objective", "mle"), facts.get("markers", "after")
        reason = STRIPPED if markers == "none" else REASONS.get(objective, f"the training says so of {objective}")
        left_out = dict.fromkeys(facts.get("measures_without_meaning", ()), reason)
        if markers == "none":
            left_out["samples"] = reason
        elif markers == "after" and "steering" in left_out:
            left_out["samples.rejected"] = reason
        return cls(objective, markers, left_out, facts.get("train", {}).get("sequence_length"))

    def meaningful(self, measured: Sequence[Measured]) -> list[Measured]:
        """Without the measures that mean nothing; `a.b` is a reading of the measure `a`."""
        return [each for each in measured if each.name.split(".")[0] not in self.left_out]
