"""The scores of a model and of its base for the same cases, and what is computed from them.

Cases count only if both models could be asked about them. The measures are computed for both models and for the
baselines, estimated on the same resamples, and tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.applicability import TrainingFacts
from adc_pipeline.evaluation.arrays import Bools
from adc_pipeline.evaluation.baselines import BASELINES, TESTED_READINGS, TextScorer, baseline_series, decides
from adc_pipeline.evaluation.cases.case_sets import Improvements, answered, keep
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.evaluation import Estimates
from adc_pipeline.evaluation.intervals.estimate import Difference
from adc_pipeline.evaluation.intervals.significance import paired_differences_from
from adc_pipeline.evaluation.measures import TESTED, CaseSets, Measured
from adc_pipeline.evaluation.scoring.likelihoods import Scores
from adc_pipeline.evaluation.settings import EvaluationSettings

Series = Mapping[str, Sequence[Measured]]


@dataclass(frozen=True)
class ScoredCases:
    """The test cases, and the scores of `model` and `base` for their queries."""

    cases: Cases
    scores: Mapping[str, Scores]

    @cached_property
    def fits(self) -> Bools:
        """Whether a query's reply fits into the contexts of both models; (queries,)."""
        return np.logical_and.reduce([each.fits for each in self.scores.values()])

    @cached_property
    def cut(self) -> Bools:
        """Whether one of the models saw a part of a query's context only; (queries,)."""
        return np.logical_or.reduce([each.cut for each in self.scores.values()])

    @cached_property
    def shared(self) -> CaseSets:
        """The cases whose queries had room, in the contexts of both models, for what the measure is about.

        A turn that did not fit into the context steers nothing. Where rejected replies crowd out other turns, they are
        not all that differs between the two contexts of an in-context improvement, or of a contrast.
        """
        sees_turn = np.logical_and.reduce([each.turns > 0 for each in self.scores.values()])
        return CaseSets(
            answered(self.cases.pairs, self.fits),
            answered(self.cases.steerings, self.fits & sees_turn),
            answered(self.cases.turns, self.fits),
            answered(self.cases.improvements, self.fits & ~self.cut),
            answered(self.cases.contrasts, self.fits & ~self.cut),
        )


def measured_series(
    scored: ScoredCases, facts: TrainingFacts, text_scorers: Mapping[str, TextScorer] | None = None
) -> dict[str, list[Measured]]:
    """Compute the measures that apply: of both models, of the baselines of preference accuracy (see `baselines`), of
    the best constant and of the verdict before.
    """
    pairs, turns, steerings = scored.shared.pairs, scored.shared.turns, scored.shared.steerings
    series = {name: measures.all_measures(scored.shared, each) for name, each in scored.scores.items()}
    series |= {"length": measures.preference_accuracy(pairs, pairs.better_bytes, pairs.worse_bytes)}
    series |= baseline_series(scored.cases, pairs, scored.scores["model"], text_scorers or {})
    series["length"].append(measures.length_steering(steerings))
    series["constant"] = [measures.constant_brier_score(turns)]
    series["grammar"] = [measures.grammar_brier_score(turns)]
    return {name: facts.applicable(measured) for name, measured in series.items()}


def reliability_curves(scored: ScoredCases, facts: TrainingFacts) -> dict[str, list[Measured]]:
    """Compute the reliability diagrams of both models, if they apply."""
    turns = scored.shared.turns
    return {
        name: facts.applicable(measures.reliability(turns, measures.p_accepted(each.log_odds[turns.turn])))
        for name, each in scored.scores.items()
    }


def estimates(series: Series, curves: Series, settings: EvaluationSettings) -> dict[str, Estimates]:
    """Estimate by series and measure; the series of a measure share their cases and are resampled together."""
    found: dict[str, Estimates] = {name: {} for name in series}
    for measure in dict.fromkeys(each.name for measured in series.values() for each in measured):
        same = {name: each for name, measured in series.items() for each in measured if each.name == measure}
        together = measures.estimates(list(same.values()), settings.draws, settings.draw_seed)
        for name, estimate in zip(same, together, strict=True):
            found[name][measure] = estimate
    for name, measured in curves.items():
        for each in measured:
            (found[name][each.name],) = measures.estimates([each], settings.draws, settings.draw_seed)
    return found


def baseline_differences(series: Series, settings: EvaluationSettings) -> dict[str, dict[str, Difference]]:
    """Return model minus baseline, paired, by baseline and tested reading of preference accuracy."""
    ours = {each.name: each for each in series["model"]}
    found: dict[str, dict[str, Difference]] = {}
    for reading in TESTED_READINGS:
        theirs = {
            name: each for name in BASELINES for each in series.get(name, ()) if each.name == reading and decides(each)
        }
        if reading not in ours or not theirs:
            continue
        first = ours[reading]
        others = np.stack([each.value for each in theirs.values()])
        together = paired_differences_from(
            first.value, others, first.weight, first.conversation, settings.draws, settings.draw_seed
        )
        for name, difference in zip(theirs, together, strict=True):
            found.setdefault(name, {})[reading] = difference
    return found


def differences(series: Series, settings: EvaluationSettings) -> dict[str, Difference]:
    """Return model minus base model, paired, for the measures `TESTED`."""
    of_base = {each.name: each for each in series["base"]}
    return {
        ours.name: measures.difference(ours, of_base[ours.name], settings.draws, settings.draw_seed)
        for ours in series["model"]
        if ours.name in TESTED
    }


def case_counts(scored: ScoredCases, facts: TrainingFacts, context_tokens: int) -> dict[str, float | None]:
    """Count conversations and queries, with those that were cut or excluded, and average the turns' lengths."""
    cases, shared = scored.cases, scored.shared
    turns = shared.turns
    counts: dict[str, float | None] = {
        "conversations.test": cases.test_conversations,
        "conversations.evaluated": len(cases.conversations),
        **cases.leakage.counts(),
        "context_tokens": context_tokens,
        "queries": len(cases.queries),
        "queries.left_out": int((~scored.fits).sum()),
        "queries.cut": int(scored.cut[scored.fits].sum()),
        "bytes.accepted": mean(turns.bytes[turns.accepted]),
        "bytes.rejected": mean(turns.bytes[~turns.accepted]),
    }
    for name, every, kept in (
        ("steering", cases.steerings, shared.steerings),
        ("in_context_improvement", of_all(cases.improvements), of_all(shared.improvements)),
        ("rejection_contrast", cases.contrasts, shared.contrasts),
    ):
        if name not in facts.excluded:
            counts[f"{name}.left_out"] = len(every.case) - len(kept.case)
    return counts


def of_all(improvements: Improvements) -> Improvements:
    """Return the rows that show all rejected siblings: one a turn."""
    return keep(improvements, improvements.shown == improvements.k)


def mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
