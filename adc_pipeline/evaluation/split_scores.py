"""Score the cases of a split with a model and with its base model.

The base model's scores are kept in a cache, since every model of a study is compared with the same base model: it is
loaded only where they are not there.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.evaluation.applicability import TrainingFacts
from adc_pipeline.evaluation.arrays import Bools, Floats
from adc_pipeline.evaluation.baselines import TextScorer
from adc_pipeline.evaluation.cases.cases import FAMILIES, Cases, read_cases
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.judging.reward import post_of
from adc_pipeline.evaluation.scored import ScoredCases
from adc_pipeline.evaluation.scoring.likelihoods import Progress, Query, Scorer, Scores
from adc_pipeline.evaluation.scoring.score_cache import cached_scores, cached_values
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.settings import PREFERENCES
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.splits import Split


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


def by_implicit_reward(model: Scores, base: Scores) -> Scores:
    """Return the scores of a model of `dpo` or `kto`, whose preference is log p(reply) - log p_base(reply).

    That is its implicit reward but for a factor (Rafailov et al. 2023): no marker tells it a verdict. The base model is
    the one that the training started from, and prefers nothing itself.
    """
    return replace(model, log_odds=model.log_probability - base.log_probability)


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
