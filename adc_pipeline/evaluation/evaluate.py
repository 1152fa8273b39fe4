"""Evaluate a model and its base model on the same test cases.

The steps: read the test cases, score them with both models, draw samples, keep the cases that both models could be
asked about, compute the measures, estimate them with intervals, measure on the validation split what promotion decides
on, and write figures, cases, samples, plots and report.
On the sample corpus (169 test conversations, 2,400 queries, 0.6 million parameters) this takes about 6.5 s of one core
after the imports: 1.8 s of scoring for each of the two models, 1.9 s of plots, 0.3 s of samples of each, 0.5 s of
intervals and tests.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.content import combined_digest, file_digest, folder_digest
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation import policy
from adc_pipeline.evaluation.baselines import BASELINES, TextScorer, informative
from adc_pipeline.evaluation.bootstrap import Floats
from adc_pipeline.evaluation.case_table import write_case_table
from adc_pipeline.evaluation.cases import FAMILIES, Cases, read_cases
from adc_pipeline.evaluation.evaluation import VALIDATION, Evaluation
from adc_pipeline.evaluation.figures import draw
from adc_pipeline.evaluation.instruct import INSTRUCT, InstructModel
from adc_pipeline.evaluation.judge import Judge
from adc_pipeline.evaluation.measures import RELIABILITY, Bools, Measured, family
from adc_pipeline.evaluation.report import evaluation_page
from adc_pipeline.evaluation.reward import post_of
from adc_pipeline.evaluation.samples import Sample, sample, sample_figures, write_samples
from adc_pipeline.evaluation.score_cache import cached_scores, cached_values
from adc_pipeline.evaluation.scored import (
    ScoredCases,
    baseline_differences,
    case_counts,
    differences,
    estimates,
    measured_series,
    reliability_curves,
)
from adc_pipeline.evaluation.scoring import Progress, Query, Scorer, Scores
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.evaluation.training_facts import REASONS, WITHOUT_VERDICTS, TrainingFacts
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.facts import WITHOUT_REJECTED
from adc_pipeline.training.settings import PREFERENCES
from adc_pipeline.walks.datasets import split_files
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.splits import Split, split_of

# Sibling groups of a conversation, and turns to steer, on the validation split.
VALIDATION_GROUPS, VALIDATION_STEERING = 2, 2
FIGURE_SUFFIXES = ("", ".low", ".high", ".cases", ".conversations", ".p")


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated: a model, its base model, and the dataset whose test split asks the questions.

    `model` and `base` are Hugging Face folders; `dataset`, `utterances` and `ranked` are the folders of those stages.
    `speakers` and `mentions` are the dataset's settings. `provenance` names, in the report, where model and data come
    from.
    `score_cache` is a folder that keeps the base model's scores for the next evaluation that asks it the same.
    `shortcomings` are sentences on what the dataset cannot teach, for the report. `judge` is the folder of the judge of
    replies; without one, policy improvement is not measured. `exclude_repeated_roots` excludes the test conversations
    whose root also occurs in the training split. `reward_cache` is a folder that keeps a reward model's scores, and an
    instruct model's replies, for the evaluations of other models, which are asked the same.
    """

    model: Path
    base: Path
    dataset: Path
    utterances: Path
    ranked: Path
    speakers: Speakers = "names"
    mentions: Speakers = "names"
    provenance: Mapping[str, str] = field(default_factory=dict)
    score_cache: Path | None = None
    shortcomings: tuple[str, ...] = ()
    judge: Path | None = None
    exclude_repeated_roots: bool = True
    reward_cache: Path | None = None


def evaluate(
    job: EvaluationJob, out: Path, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> Evaluation:
    """Evaluate `job.model` against `job.base` on the test split of `job.dataset`.

    `out` is an empty folder; it receives `evaluation.json`, `metrics.json`, `cases.parquet`, `samples.parquet`,
    `report.html` and the plots; with a `validation_metric`, also the folder `validation` (see `validate`). The model's
    `training.json` decides how texts are laid out and which measures apply.
    `progress` is called with the model's name, the queries done and the queries in all. Raises PipelineError where the
    memory does not suffice.
    """
    from adc_pipeline.training.stopping import enough_memory

    trained = TrainingFacts.read(job.model)
    settings = within_training(settings or EvaluationSettings(), trained)
    refusal = PipelineError(
        f"The evaluation ran out of memory; lower `row_tokens` {settings.row_tokens}, then `max_context_tokens`"
        f" {settings.max_context_tokens}, `samples` {settings.samples} and `max_new_tokens` {settings.max_new_tokens},"
        " or use a device with more memory."
    )
    with enough_memory(refusal):
        return _evaluate(job, out, trained, settings, progress)


def _evaluate(
    job: EvaluationJob, out: Path, trained: TrainingFacts, settings: EvaluationSettings, progress: Progress | None
) -> Evaluation:
    model, load_base = Scorer.load(job.model, settings), cache(lambda: Scorer.load(job.base, settings))
    scored = score_split(job, model, load_base, trained, settings, out / "spill", progress)
    cases, facts = scored.cases, without_calibration(trained, scored.shared.turns.accepted)
    samples: list[Sample] = []
    if settings.samples and "samples" not in facts.excluded:
        samples = [
            *sample(model, cases, settings, "model", facts.arrangement),
            *sample(load_base(), cases, settings, "base model", facts.arrangement),
        ]
    samples = [each for each in samples if f"samples.{each.verdict}" not in facts.excluded]

    judge = Judge.read(job.judge) if job.judge and settings.contexts else None
    facts = without_policy(facts, judge, job.dataset)
    series = measured_series(scored, facts, text_scorers(job))
    if judge is not None:
        series["model"] += policy_series(job, model, cases, facts, judge, settings, out, progress)
    validation = None
    if settings.validation_metric:
        validation = validate(job, model, load_base, trained, settings, out / VALIDATION, progress)
    found = estimates(series, reliability_curves(scored, facts), settings)
    evaluation = Evaluation(
        model=found["model"],
        base=found["base"],
        length=found["length"],
        constant=found["constant"],
        grammar=found["grammar"],
        baselines={name: found[name] for name in BASELINES if name in found and name != "length"},
        minus_base=differences(series, settings),
        minus_baselines=baseline_differences(series, settings),
        counts=case_counts(scored, facts, model.context_tokens)
        | sample_figures(samples)
        | validation_figures(validation, settings.validation_metric),
        test_split=split_digest(job.dataset, "test"),
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
    plots = draw(
        out, {"base model": informative(evaluation.base), "model": evaluation.model, "length alone": evaluation.length}
    )
    page = evaluation_page(evaluation, samples, plots, job.provenance, validation, settings.validation_metric)
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


def split_digest(dataset: Path, split: Split) -> str:
    """Return the SHA-256 of a split's file, or a digest of all of its files."""
    files = list(map(Path, split_files(dataset, split)))
    if len(files) == 1:
        return file_digest(files[0])
    return combined_digest((file.name, file_digest(file)) for file in files)


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
    speaks = job.speakers != "none"
    names = policy.names_of(cases.contexts, cases.conversations)
    writer = policy.Writer(policy.Trained(model, facts.arrangement, speaks), sampling, settings.draw_seed)
    replies = writer.write(cases.contexts, names, settings.rejections, progress)
    instruct = job.judge is not None and (job.judge / INSTRUCT).is_dir()
    if instruct:
        replies += instruct_replies(job, cases, names, sampling, settings, progress)
    posts = [post_of(context.background, context.turns, job.speakers != "none") for context in cases.contexts]
    found = policy.judged(replies, judge, posts)
    policy.write_replies(out / policy.REPLIES, found, cases.contexts, cases.conversations)
    described = policy.described(found, cases.contexts)
    if policy.POLICY in facts.excluded:
        # The same figures as for every model, without cases.
        return [*policy.measured(policy.judged([], judge, []), [], settings.rejections, instruct), *described]
    return [*policy.measured(found, cases.contexts, settings.rejections, instruct), *described]


def instruct_replies(
    job: EvaluationJob,
    cases: Cases,
    names: Sequence[str],
    sampling: Sampling,
    settings: EvaluationSettings,
    progress: Progress | None,
) -> list[policy.Reply]:
    """Have the instruct model beside the judge write its own replies, or take those of another model's evaluation."""
    assert job.judge is not None
    folder, contexts, most = job.judge / INSTRUCT, cases.contexts, settings.rejections

    def compute() -> NDArray[np.str_]:
        author = InstructModel.load(folder, job.speakers != "none", settings)
        writer = policy.Writer(author, sampling, settings.draw_seed)
        replies = writer.own(contexts, names, most, progress, policy.INSTRUCT)
        turn_of = {(each.context, each.k): each.turn for each in replies}
        return np.array([turn_of[number, k] for number in range(len(contexts)) for k in range(most + 1)], np.str_)

    question = (
        code_version(InstructModel.__module__),
        folder_digest(folder),
        [(each.background, each.turns) for each in contexts],
        names,
        sampling,
        (most, job.speakers, settings.max_context_tokens, settings.draw_seed),
    )
    turns = cached_values(job.reward_cache, question, compute).tolist()
    return [
        policy.Reply(place // (most + 1), policy.INSTRUCT, place % (most + 1), turn, turn)
        for place, turn in enumerate(turns)
    ]


def within_training(settings: EvaluationSettings, facts: TrainingFacts) -> EvaluationSettings:
    """Limit the context to the longest piece that the model was trained on."""
    if facts.longest_piece is None:
        return settings
    return replace(settings, max_context_tokens=min(settings.max_context_tokens, facts.longest_piece))


def score_split(
    job: EvaluationJob,
    model: Scorer,
    load_base: Callable[[], Scorer],
    facts: TrainingFacts,
    settings: EvaluationSettings,
    spill: Path,
    progress: Progress | None,
    split: Split = "test",
    families: Collection[str] = FAMILIES,
) -> ScoredCases:
    """Read the cases of a split and score them with the model and with its base model.

    The format is the one whose markers the model's tokenizer has. The base model is loaded only if its scores are not
    in the cache.
    """
    format = next(name for name, markers in FORMATS.items() if markers == model.tokenizer.markers)
    cases = read_cases(
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
        split=split,
        families=families,
        mentions=job.mentions,
    )
    label = "" if split == "test" else f", {split} split"
    of_pairs = cases.ask_text.copy()
    of_pairs[cases.pairs.better] = of_pairs[cases.pairs.worse] = True
    by_text = facts.objective in PREFERENCES
    ask_base = of_pairs if by_text else cases.ask_text
    # A baseline is the probability that the model gives to the replies of the pairs.
    ask_model = of_pairs if by_text or split == "test" else cases.ask_text

    def score(scorer: Scorer, name: str, ask_text: Bools) -> Scores:
        return scorer.score(cases.queries, ask_text, progress, name + label, cases.own_verdicts, facts.arrangement)

    question = base_question(job, cases, ask_base, facts, settings)
    base_scores = cached_scores(job.score_cache, question, lambda: score(load_base(), "base model", ask_base))
    scores = score(model, "model", ask_model)
    if by_text:
        scores, base_scores = (by_implicit_reward(each, base_scores) for each in (scores, base_scores))
    return ScoredCases(cases, {"model": scores, "base": base_scores})


def text_scorers(job: EvaluationJob) -> dict[str, TextScorer]:
    """Return the baselines that score the texts of replies: those that the judge's folder holds."""
    if job.judge is None:
        return {}
    judge, named = Judge.read(job.judge), job.speakers != "none"
    found: dict[str, TextScorer] = {}
    if words := judge if judge.kind == "words" else judge.baseline:
        found["words"] = lambda _, texts: words.scores(texts)[0]
    if judge.kind == "model":

        def reward(queries: Sequence[Query], texts: Sequence[str]) -> Floats:
            posts = [post_of(query.background, query.turns, named) for query in queries]
            question = (judge.digest, posts, list(texts))
            return cached_values(job.reward_cache, question, lambda: judge.values(texts, posts))

        found["reward"] = reward
    return found


def validate(
    job: EvaluationJob,
    model: Scorer,
    load_base: Callable[[], Scorer],
    facts: TrainingFacts,
    settings: EvaluationSettings,
    out: Path,
    progress: Progress | None,
) -> Evaluation:
    """Measure `settings.validation_metric` on the validation split, on which promotion decides.

    Whatever decides between versions week after week makes its own figure look better than it is, so the split that
    the report is about does not decide. Only the cases of that metric are scored, few of each conversation, since
    conversations are what an interval rests on. `out` receives `evaluation.json`, `metrics.json` and `cases.parquet`.
    """
    few = replace(
        settings,
        max_conversations=settings.validation_conversations,
        max_groups=min(settings.max_groups, VALIDATION_GROUPS),
        max_steering=min(settings.max_steering, VALIDATION_STEERING),
        contexts=0,
    )
    out.mkdir()
    families = (family(settings.validation_metric),)
    scored = score_split(job, model, load_base, facts, few, out / "spill", progress, "validation", families)
    facts = without_calibration(facts, scored.shared.turns.accepted)
    series = {
        name: [each for each in measured if each.name == settings.validation_metric]
        for name, measured in measured_series(scored, facts).items()
    }
    found = estimates(series, {}, settings)
    evaluation = Evaluation(
        model=found["model"],
        base=found["base"],
        length=found["length"],
        constant=found["constant"],
        grammar=found["grammar"],
        minus_base=differences(series, settings),
        counts=case_counts(scored, facts, model.context_tokens),
        test_split=split_digest(job.dataset, "validation"),
        objective=facts.objective,
        markers=facts.markers,
        left_out=facts.excluded,
    )
    evaluation.write(out)
    write_case_table(out, scored.cases.conversations, series)
    return evaluation


def validation_figures(validation: Evaluation | None, metric: str) -> dict[str, float | None]:
    """Return the flat figures of the validation split: `validation.METRIC`, `validation.base.METRIC` and so on."""
    if validation is None:
        return {}
    wanted = {f"{prefix}{metric}{suffix}" for prefix in ("", "base.", "minus_base.") for suffix in FIGURE_SUFFIXES}
    return {f"validation.{name}": value for name, value in validation.metrics().items() if name in wanted}


def base_question(
    job: EvaluationJob, cases: Cases, ask_text: Bools, facts: TrainingFacts, settings: EvaluationSettings
) -> object:
    """Return all that the base model's scores depend on."""
    return (
        code_version(__name__),
        folder_digest(job.base),
        settings.max_context_tokens,
        cases.queries,
        cases.own_verdicts,
        facts.arrangement,
        ask_text.tobytes(),
    )
