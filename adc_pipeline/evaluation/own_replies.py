"""Have a model write its own replies after rejections, and judge them (`policy`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.evaluation.applicability import TrainingFacts
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.judging.reward import post_of
from adc_pipeline.evaluation.measures import Measured
from adc_pipeline.evaluation.replies import policy
from adc_pipeline.evaluation.replies.instruct import INSTRUCT, InstructModel
from adc_pipeline.evaluation.replies.reply_writer import Reply, Trained, Writer, names_of
from adc_pipeline.evaluation.scoring.likelihoods import Progress, Scorer
from adc_pipeline.evaluation.scoring.score_cache import cached_values
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.texts.facts import WITHOUT_REJECTED


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
    names = names_of(cases.contexts, cases.conversations)
    writer = Writer(Trained(model, facts.arrangement, speaks), sampling, settings.draw_seed)
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
) -> list[Reply]:
    """Have the instruct model beside the judge write its own replies, or take those of another model's evaluation."""
    assert job.judge is not None
    folder, contexts, most = job.judge / INSTRUCT, cases.contexts, settings.rejections

    def compute() -> NDArray[np.str_]:
        author = InstructModel.load(folder, job.speakers != "none", settings)
        writer = Writer(author, sampling, settings.draw_seed)
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
        Reply(place // (most + 1), policy.INSTRUCT, place % (most + 1), turn, turn) for place, turn in enumerate(turns)
    ]
