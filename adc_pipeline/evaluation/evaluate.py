"""Evaluate a model and its base model on the same test cases.

The steps: read the test cases, score them with both models, draw samples, keep the cases that both models could be
asked about, compute the measures, estimate them with intervals, measure on the validation split what promotion decides
on, and write figures, cases, samples, plots and report.
On the sample corpus (169 test conversations, 2,400 queries, 0.6 million parameters) this takes about 6.5 s of one core
after the imports: 1.8 s of scoring for each of the two models, 1.9 s of plots, 0.3 s of samples of each, 0.5 s of
intervals and tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.content import combined_digest, file_digest
from adc_pipeline.evaluation.applicability import (
    TrainingFacts,
    within_training,
    without_calibration,
    without_policy,
)
from adc_pipeline.evaluation.baselines import BASELINES, informative
from adc_pipeline.evaluation.case_table import write_case_table
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.evaluation import VALIDATION, Estimates, Evaluation
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.measures import family
from adc_pipeline.evaluation.own_replies import policy_series
from adc_pipeline.evaluation.presentation.figures import draw
from adc_pipeline.evaluation.presentation.page import REPORT
from adc_pipeline.evaluation.presentation.report import evaluation_page
from adc_pipeline.evaluation.samples import Sample, sample, sample_figures, write_samples
from adc_pipeline.evaluation.scored import (
    ScoredCases,
    Series,
    baseline_differences,
    case_counts,
    differences,
    estimates,
    measured_series,
    reliability_curves,
)
from adc_pipeline.evaluation.scoring.likelihoods import Progress, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.evaluation.split_scores import score_split, text_scorers
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import Split

# Sibling groups of a conversation, and turns to steer, on the validation split.
VALIDATION_GROUPS, VALIDATION_STEERING = 2, 2
FIGURE_SUFFIXES = ("", ".low", ".high", ".cases", ".conversations", ".p")


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
    from adc_pipeline.training.architectures.memory import enough_memory

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
    samples = samples_of(model, load_base, cases, settings, facts)
    judge = Judge.read(job.judge) if job.judge and settings.contexts else None
    facts = without_policy(facts, judge, job.dataset)
    series = measured_series(scored, facts, text_scorers(job))
    if judge is not None:
        series["model"] += policy_series(job, model, cases, facts, judge, settings, out, progress)
    validation = None
    if settings.validation_metric:
        validation = validate(job, model, load_base, trained, settings, out / VALIDATION, progress)
    found = estimates(series, reliability_curves(scored, facts), settings)
    both = result(found, series, scored, facts, model, settings, split_digest(job.dataset, "test"))
    evaluation = replace(
        both,
        baselines={name: found[name] for name in BASELINES if name in found and name != "length"},
        minus_baselines=baseline_differences(series, settings),
        counts={
            **both.counts,
            **sample_figures(samples),
            **validation_figures(validation, settings.validation_metric),
        },
        shortcomings=job.shortcomings,
        judge={"preference_accuracy": judge.accuracy} if judge else {},
        judge_name=judge.name if judge else "",
        judge_digest=judge.digest if judge else "",
    )
    evaluation.write(out)
    write_case_table(out, cases.conversations, cases.sources, series)
    write_samples(out / "samples.parquet", samples)
    plots = draw(
        out, {"base model": informative(evaluation.base), "model": evaluation.model, "length alone": evaluation.length}
    )
    page = evaluation_page(evaluation, samples, plots, job.provenance, validation, settings.validation_metric)
    (out / REPORT).write_text(page, encoding="utf-8")
    return evaluation


def samples_of(
    model: Scorer, load_base: Callable[[], Scorer], cases: Cases, settings: EvaluationSettings, facts: TrainingFacts
) -> list[Sample]:
    """Draw the samples of both models that mean something for this model."""
    if not settings.samples or "samples" in facts.excluded:
        return []
    found = [
        *sample(model, cases, settings, "model", facts.arrangement),
        *sample(load_base(), cases, settings, "base model", facts.arrangement),
    ]
    return [each for each in found if f"samples.{each.verdict}" not in facts.excluded]


def result(
    found: Mapping[str, Estimates],
    series: Series,
    scored: ScoredCases,
    facts: TrainingFacts,
    model: Scorer,
    settings: EvaluationSettings,
    digest: str,
) -> Evaluation:
    """Return what the evaluations of the test and of the validation split have in common; `digest` is the split's."""
    return Evaluation(
        model=found["model"],
        base=found["base"],
        length=found["length"],
        constant=found["constant"],
        grammar=found["grammar"],
        minus_base=differences(series, settings),
        counts=case_counts(scored, facts, model.context_tokens),
        test_split=digest,
        objective=facts.objective,
        markers=facts.markers,
        left_out=facts.excluded,
    )


def split_digest(dataset: Path, split: Split) -> str:
    """Return the SHA-256 of a split's file, or a digest of all of its files."""
    files = list(map(Path, split_files(dataset, split)))
    if len(files) == 1:
        return file_digest(files[0])
    return combined_digest((file.name, file_digest(file)) for file in files)


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
    digest = split_digest(job.dataset, "validation")
    evaluation = result(found, series, scored, facts, model, settings, digest)
    evaluation.write(out)
    write_case_table(out, scored.cases.conversations, scored.cases.sources, series)
    return evaluation


def validation_figures(validation: Evaluation | None, metric: str) -> dict[str, float | None]:
    """Return the flat figures of the validation split: `validation.METRIC`, `validation.base.METRIC` and so on."""
    if validation is None:
        return {}
    wanted = {f"{prefix}{metric}{suffix}" for prefix in ("", "base.", "minus_base.") for suffix in FIGURE_SUFFIXES}
    return {f"validation.{name}": value for name, value in validation.metrics().items() if name in wanted}
