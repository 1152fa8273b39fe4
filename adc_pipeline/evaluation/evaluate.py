"""Evaluate a model and its base model on the same test cases.

The steps: read the test cases, score them with both models, draw samples, keep the cases that both models could be
asked about, compute the measures, estimate them with intervals, and write figures, cases, samples, plots and report.
On the sample corpus (169 test conversations, 2,400 queries, 0.6 million parameters) this takes about 6.5 s of one core
after the imports: 1.8 s of scoring for each of the two models, 1.9 s of plots, 0.3 s of samples of each, 0.5 s of
intervals and tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from adc_pipeline.core.artefacts import file_digest, folder_digest
from adc_pipeline.core.code_version import code_version
from adc_pipeline.evaluation import measures, policy
from adc_pipeline.evaluation.case_table import write_case_table
from adc_pipeline.evaluation.cases import Cases, Improvements, answered, keep, read_cases
from adc_pipeline.evaluation.estimate import Difference
from adc_pipeline.evaluation.evaluation import Estimates, Evaluation
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.judge import Judge
from adc_pipeline.evaluation.measures import RELIABILITY, TESTED, Bools, CaseSets, Measured
from adc_pipeline.evaluation.report import evaluation_page
from adc_pipeline.evaluation.samples import Sample, sample, sample_figures, write_samples
from adc_pipeline.evaluation.score_cache import cached_scores
from adc_pipeline.evaluation.scoring import Progress, Scorer, Scores
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.evaluation.training_facts import REASONS, WITHOUT_VERDICTS, TrainingFacts
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.facts import WITHOUT_REJECTED, ModelFacts
from adc_pipeline.training.settings import PREFERENCES
from adc_pipeline.walks.datasets import split_file
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.splits import split_of

Series = Mapping[str, Sequence[Measured]]


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated: a model, its base model, and the dataset whose test split asks the questions.

    `model` and `base` are Hugging Face folders; `dataset`, `utterances` and `ranked` are the folders of those stages.
    `speakers` is the dataset's setting. `provenance` names, in the report, where model and data come from.
    `score_cache` is a folder that keeps the base model's scores for the next evaluation that asks it the same.
    `shortcomings` are sentences on what the dataset cannot teach, for the report. `judge` is the folder of the judge of
    replies; without one, policy improvement is not measured. `exclude_repeated_roots` excludes the test conversations
    whose root also occurs in the training split.
    """

    model: Path
    base: Path
    dataset: Path
    utterances: Path
    ranked: Path
    speakers: Speakers = "names"
    provenance: Mapping[str, str] = field(default_factory=dict)
    score_cache: Path | None = None
    shortcomings: tuple[str, ...] = ()
    judge: Path | None = None
    exclude_repeated_roots: bool = True


def evaluate(
    job: EvaluationJob, out: Path, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> Evaluation:
    """Evaluate `job.model` against `job.base` on the test split of `job.dataset`.

    `out` is an empty folder; it receives `evaluation.json`, `metrics.json`, `cases.parquet`, `samples.parquet`,
    `report.html` and the plots. The model's `training.json` decides how texts are laid out and which measures apply.
    `progress` is called with the model's name, the queries done and the queries in all.
    """
    facts = TrainingFacts.read(job.model)
    settings = within_training(settings or EvaluationSettings(), facts)
    model, load_base = Scorer.load(job.model, settings), cache(lambda: Scorer.load(job.base, settings))
    cases = read_test_cases(job, model, facts, settings, out / "spill")

    if facts.objective in PREFERENCES:
        for of_pairs in (cases.pairs.better, cases.pairs.worse):
            cases.ask_text[of_pairs] = True

    def score(scorer: Scorer, name: str) -> Scores:
        return scorer.score(cases.queries, cases.ask_text, progress, name, cases.own_verdicts, facts.arrangement)

    question = base_question(job, cases, facts, settings)
    base_scores = cached_scores(job.score_cache, question, lambda: score(load_base(), "base model"))
    scores = score(model, "model")
    if facts.objective in PREFERENCES:
        scores, base_scores = (by_implicit_reward(each, base_scores) for each in (scores, base_scores))
    scored = ScoredCases(cases, {"model": scores, "base": base_scores})
    facts = without_calibration(facts, scored.shared.turns.accepted)
    samples: list[Sample] = []
    if settings.samples and "samples" not in facts.excluded:
        samples = [
            *sample(model, cases, settings, "model", facts.arrangement),
            *sample(load_base(), cases, settings, "base model", facts.arrangement),
        ]
    samples = [each for each in samples if f"samples.{each.verdict}" not in facts.excluded]

    judge = Judge.read(job.judge) if job.judge and settings.contexts else None
    facts = without_policy(facts, judge, job.dataset)
    series = measured_series(scored, facts)
    if judge is not None:
        series["model"] += policy_series(job, model, cases, facts, judge, settings, out, progress)
    evaluation = Evaluation(
        **estimates(series, reliability_curves(scored, facts), settings),
        minus_base=differences(series, settings),
        counts=case_counts(scored, facts, model.context_tokens) | sample_figures(samples),
        test_split=file_digest(job.dataset / split_file("test")),
        objective=facts.objective,
        markers=facts.markers,
        left_out=facts.excluded,
        shortcomings=job.shortcomings,
        judge={"preference_accuracy": judge.accuracy} if judge else {},
        judge_name=judge.name if judge else "",
        judge_digest=judge.digest if judge else "",
    )
    evaluation.write(out)
    write_case_table(out, cases.conversations, series)
    write_samples(out / "samples.parquet", samples)
    plots = draw(out, {"base model": evaluation.base, "model": evaluation.model, "length alone": evaluation.length})
    page = evaluation_page(evaluation, samples, plots, job.provenance)
    (out / "report.html").write_text(page, encoding="utf-8")
    return evaluation


def by_implicit_reward(model: Scores, base: Scores) -> Scores:
    """Return the scores of a model of `dpo` or `kto`, whose preference is log p(reply) - log p_base(reply).

    That is its implicit reward but for a factor (Rafailov et al. 2023): no marker tells it a verdict. The base model is
    the one that the training started from, and prefers nothing itself.
    """
    return replace(model, log_odds=model.log_probability - base.log_probability)


def without_calibration(facts: TrainingFacts, accepted: Bools) -> TrainingFacts:
    """Exclude calibration where all test turns have one verdict, since always predicting that would be perfect."""
    if len(np.unique(accepted)) > 1 or not len(accepted):
        return facts
    reason = f"every turn of the test split is {'accepted' if accepted[0] else 'rejected'}"
    return replace(facts, excluded={RELIABILITY: reason, **facts.excluded})


NO_JUDGE = "there was no judge, or the setting `contexts` was 0"


def without_policy(facts: TrainingFacts, judge: Judge | None, dataset: Path) -> TrainingFacts:
    """Exclude policy improvement where the model knows no rejected turns, or where the judge decides nothing."""
    if judge is None:
        return replace(facts, excluded={policy.POLICY: NO_JUDGE, **facts.excluded})
    reason = judge.objection() or unseen_problem(judge, dataset)
    if facts.markers == "none":
        reason = WITHOUT_VERDICTS["none"]
    elif facts.objective in WITHOUT_REJECTED:
        reason = REASONS["filtering"]
    return replace(facts, excluded={policy.POLICY: reason, **facts.excluded}) if reason else facts


def unseen_problem(judge: Judge, dataset: Path) -> str:
    """Return the sentence's part for a judge that was trained on test conversations of the dataset; empty if none."""
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(dataset / split_file("test"), columns=["conversation_id"], partitioning=None)
    if all(split_of(id, judge.shares) == "test" for id in read["conversation_id"].unique().to_pylist()):
        return ""
    return (
        f"the judge was made with the setting `shares` {judge.shares} and this dataset with another, so that it may"
        " have been trained on test conversations"
    )


def policy_series(
    job: EvaluationJob,
    model: Scorer,
    cases: Cases,
    facts: TrainingFacts,
    judge: Judge,
    settings: EvaluationSettings,
    out: Path,
    progress: Progress | None,
) -> list[Measured]:
    """Have the model write its replies, write the table of them, and return the measures that apply."""
    if facts.markers == "none" or facts.objective in WITHOUT_REJECTED:
        return []
    sampling = Sampling(settings.temperature, 1.0, settings.reply_tokens)
    arranged = ModelFacts.read(job.model).arrangement
    writer = policy.Writer(model, arranged, job.speakers != "none", sampling, settings.draw_seed)
    replies = policy.policy_replies(writer, cases.contexts, cases.conversations, settings.rejections, progress)
    found = policy.judged(replies, judge)
    policy.write_replies(out / policy.REPLIES, found, cases.contexts, cases.conversations)
    described = policy.described(found, cases.contexts)
    if policy.POLICY in facts.excluded:
        # The same figures as for every model, without cases.
        return [*policy.measured(policy.judged([], judge), [], settings.rejections), *described]
    return [*policy.measured(found, cases.contexts, settings.rejections), *described]


def within_training(settings: EvaluationSettings, facts: TrainingFacts) -> EvaluationSettings:
    """Limit the context to the longest piece that the model was trained on."""
    if facts.longest_piece is None:
        return settings
    return replace(settings, max_context_tokens=min(settings.max_context_tokens, facts.longest_piece))


def read_test_cases(
    job: EvaluationJob, model: Scorer, facts: TrainingFacts, settings: EvaluationSettings, spill: Path
) -> Cases:
    """Read the test cases in the format whose markers the model's tokenizer has."""
    format = next(name for name, markers in FORMATS.items() if markers == model.tokenizer.markers)
    return read_cases(
        job.dataset,
        job.utterances,
        job.ranked,
        format,
        job.speakers,
        settings,
        spill,
        # The pairs are asked of `dpo` and `kto` too, without a verdict.
        markers="after" if facts.objective in PREFERENCES else facts.markers,
        exclude_repeated_roots=job.exclude_repeated_roots,
    )


def base_question(job: EvaluationJob, cases: Cases, facts: TrainingFacts, settings: EvaluationSettings) -> object:
    """Return all that the base model's scores depend on."""
    return (
        code_version(__name__),
        folder_digest(job.base),
        settings.max_context_tokens,
        cases.queries,
        cases.own_verdicts,
        facts.arrangement,
        cases.ask_text.tobytes(),
    )


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


def measured_series(scored: ScoredCases, facts: TrainingFacts) -> dict[str, list[Measured]]:
    """Compute the measures that apply, of both models, of length, of the best constant and of the verdict before."""
    pairs, turns, steerings = scored.shared.pairs, scored.shared.turns, scored.shared.steerings
    series = {name: measures.all_measures(scored.shared, each) for name, each in scored.scores.items()}
    series["length"] = [
        *measures.preference_accuracy(pairs, pairs.better_bytes, pairs.worse_bytes),
        measures.length_steering(steerings),
    ]
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
