"""Read what a model was trained on, and decide which measures apply to it.

`training.json` beside a model's weights states the layout of its texts. The same texts and measures for every model
would compare different things:

- `conditional` reads a verdict before its turn, as do `quantiles` and `hindsight` with other labels. Its texts are laid
  out that way, its own turn's verdict included: bits per byte are then of a turn given its verdict, and in-context
  improvement compares two such figures. After a turn it expects the next turn's marker, so no verdict can be read
  there.
- `filtering` never met a rejected turn. It is scored on the same texts as every other model, rejected turns included;
  its in-context improvement tells what these, and a marker that it has never met either, are worth to a model that was
  not taught to use them.
- A model whose markers were stripped is scored on texts without markers, one that was trained with a neutral marker on
  texts with that marker, and both on no measure that needs a verdict's marker.

No model is scored on longer contexts than the pieces that it was trained on: beyond them its positions are untrained,
and in-context improvement, one side of which always has the longer context, would measure that.

A measure that does not apply is neither written nor drawn; the report gives the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adc_pipeline.evaluation.measures import Measured, family
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.training.facts import ModelFacts

VERDICT_BEFORE = (
    "the model was trained on texts in which a verdict stands before its turn, so the marker after a turn is the next"
    " turn's"
)
REASONS = {
    "filtering": "the model was trained on texts without rejected turns and knows no more of rejected than its base"
    " model does",
    "conditional": VERDICT_BEFORE,
    "quantiles": VERDICT_BEFORE,
    "hindsight": VERDICT_BEFORE,
}
WITHOUT_VERDICTS = {
    "none": "the model was trained on texts with a line break in place of every marker",
    "neutral": "the model was trained on texts with one marker for both verdicts",
}


def comparable_bits(one: str, other: str) -> bool:
    """Return whether bits per byte of two models can be compared, given where their markers stand.

    A model that reads a turn's own verdict before the turn knows more about the turn. A model without markers can be
    compared with one that reads them after the turns: the difference is what the markers of earlier turns are worth.
    """
    return (one == "before") == (other == "before")


@dataclass(frozen=True)
class TrainingFacts:
    """The objective, where the markers stand, why each excluded measure does not apply, and the longest trained piece.

    `longest_piece` is in tokens; None where the model was not trained by this project.
    """

    objective: str = "mle"
    markers: Literal["after", "before", "none", "neutral"] = "after"
    excluded: Mapping[str, str] = field(default_factory=dict)
    longest_piece: int | None = None
    arrangement: Arrangement = field(default_factory=Arrangement)

    @classmethod
    def read(cls, model: Path) -> "TrainingFacts":
        """Read them from a model's folder; a model without `training.json` reads its markers after the turns."""
        facts = ModelFacts.read(model)
        reason = REASONS.get(facts.objective, f"the training excludes it for {facts.objective}")
        reason = WITHOUT_VERDICTS.get(facts.markers, reason)
        excluded = dict.fromkeys(facts.measures_without_meaning, reason)
        if facts.markers in WITHOUT_VERDICTS:
            excluded["samples"] = reason
        elif facts.markers == "after" and "steering" in excluded:
            excluded["samples.rejected"] = reason
        return cls(facts.objective, facts.markers, excluded, facts.sequence_length, facts.arrangement)

    def applicable(self, measured: Sequence[Measured]) -> list[Measured]:
        """Return the measures that apply to the model."""
        return [each for each in measured if family(each.name) not in self.excluded]
