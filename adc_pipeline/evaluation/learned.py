"""What a model learned from, as `training.json` beside its weights says, and what therefore means nothing.

A model that read a verdict before its turn (`conditional`) is shown texts laid out that way, its own turn's
verdict included: bits per byte are then of a turn given its verdict, and in-context improvement compares
two such figures. After a turn it expects the next turn's marker, so nothing can be read there. A model that
never met a rejected turn (`filtering`) is asked about the same texts as every other model, rejected turns
included: how little these help it is what its in-context improvement is the control for. A model whose
markers were stripped is shown texts without any, and asked about nothing that a marker tells.

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
    """The objective, where its markers stand, and by measure why it is left out."""

    objective: str = "mle"
    markers: Literal["after", "before", "none"] = "after"
    left_out: Mapping[str, str] = field(default_factory=dict)

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
        return cls(objective, markers, left_out)

    def meaningful(self, measured: Sequence[Measured]) -> list[Measured]:
        """Without the measures that mean nothing; `a.b` is a reading of the measure `a`."""
        return [each for each in measured if each.name.split(".")[0] not in self.left_out]
