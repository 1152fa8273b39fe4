"""Decide which measures apply to a model, from what it was trained on, and from the split and the judge.

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
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from adc_pipeline.evaluation.arrays import Bools
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.measures import RELIABILITY, Measured, family
from adc_pipeline.evaluation.replies.policy import POLICY
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.facts import WITHOUT_REJECTED, MarkerPlace, ModelFacts
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import split_of

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
NO_JUDGE = "there was no judge, or the setting `contexts` was 0"


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
    markers: MarkerPlace = "after"
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


def without_calibration(facts: TrainingFacts, accepted: Bools) -> TrainingFacts:
    """Exclude calibration where all test turns have one verdict, since always predicting that would be perfect."""
    if len(np.unique(accepted)) > 1 or not len(accepted):
        return facts
    reason = f"every turn of the test split is {'accepted' if accepted[0] else 'rejected'}"
    return replace(facts, excluded={RELIABILITY: reason, **facts.excluded})


def without_policy(facts: TrainingFacts, judge: Judge | None, dataset: Path) -> TrainingFacts:
    """Exclude policy improvement where the model knows no rejected turns, or where the judge decides nothing."""
    if judge is None:
        return replace(facts, excluded={POLICY: NO_JUDGE, **facts.excluded})
    reason = judge.objection() or unseen_problem(judge, dataset)
    if facts.markers == "none":
        reason = WITHOUT_VERDICTS["none"]
    elif facts.objective in WITHOUT_REJECTED:
        reason = REASONS["filtering"]
    return replace(facts, excluded={POLICY: reason, **facts.excluded}) if reason else facts


def unseen_problem(judge: Judge, dataset: Path) -> str:
    """Return the sentence's part for a judge that was trained on test conversations of the dataset; empty if none."""
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(split_files(dataset, "test"), columns=["conversation_id"], partitioning=None)
    if all(split_of(id, judge.shares) == "test" for id in read["conversation_id"].unique().to_pylist()):
        return ""
    return (
        f"the judge was made with the setting `shares` {judge.shares} and this dataset with another, so that it may"
        " have been trained on test conversations"
    )


def within_training(settings: EvaluationSettings, facts: TrainingFacts) -> EvaluationSettings:
    """Limit the context to the longest piece that the model was trained on."""
    if facts.longest_piece is None:
        return settings
    return replace(settings, max_context_tokens=min(settings.max_context_tokens, facts.longest_piece))
