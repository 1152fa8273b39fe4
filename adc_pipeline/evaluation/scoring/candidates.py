"""Rank candidate replies to a post with a model of walks: P(accepted), rank, and the margin to the next candidate.

The figures are the evaluation's: the log-odds of the marker `accepted` over `rejected` right after a candidate, in its
context, from the same scorer. Candidates of one post share their context, which goes through the model once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import parsed
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer, p_accepted
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.address import located
from adc_pipeline.generation.questions import conversation_of, items_of, with_turn
from adc_pipeline.generation.replier import Replier, out_of_memory
from adc_pipeline.training.architectures.memory import enough_memory

# Candidates that are scored before their answers are written.
AT_ONCE = 5_000


@dataclass(frozen=True)
class Ranker:
    """A model that ranks candidates, on the GPU if there is one."""

    replier: Replier
    scorer: Scorer

    @classmethod
    def load(cls, address: str) -> "Ranker":
        """Load a model by its address; raise PipelineError for one whose verdict after a turn means nothing."""
        with located(address) as place:
            replier = Replier.load(place)
        return cls.of(replier, f"`--model` {address}")

    @classmethod
    def of(cls, replier: Replier, name: str) -> "Ranker":
        """Return the ranker of a model, called `name` in errors; raise PipelineError as `load` does."""
        # `dpo` and `kto` compare replies by how much likelier they became, which needs the base model too.
        facts = replier.facts
        if facts.markers != "after" or not {"preference_accuracy", "verdict_calibration"}.isdisjoint(
            facts.measures_without_meaning
        ):
            how = f"the objective {facts.objective}" if facts.objective != "mle" else f"`markers` {facts.markers}"
            raise PipelineError(
                f"{name[:1].upper()}{name[1:]} was trained with {how}, which does not give a verdict after a reply:"
                " name a model that does, such as models:/adc-top-2@latest."
            )
        # As the evaluation scores. Replies are drawn by the model as it is stored.
        model = replier.model if replier.model.dtype == torch.float32 else deepcopy(replier.model).float()
        most = EvaluationSettings().max_context_tokens
        # Beyond the longest piece of a walk in its training, a model's positions are untrained.
        settings = EvaluationSettings(max_context_tokens=min(most, facts.sequence_length or most))
        return cls(replier, Scorer(model, replier.tokenizer, settings))

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield one answer for each line of JSON, in order: `candidates` with their figures, or an `error`.

        Empty lines have no answer.
        """
        waiting: list[list[Query] | str] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                waiting.append(self.queries(line))
            except PipelineError as error:
                waiting.append(f"Line {number}: {error}")
            if sum(len(each) for each in waiting if not isinstance(each, str)) >= AT_ONCE:
                yield from self.scored(waiting)
                waiting = []
        yield from self.scored(waiting)

    def queries(self, line: str) -> list[Query]:
        """Return the queries of one line, one a candidate; raise PipelineError for a line that is no question."""
        try:
            asked = parsed(line)
        except ValueError as error:
            raise PipelineError(f"it is not JSON ({error}): write one object a line.") from error
        if not isinstance(asked, Mapping):
            raise PipelineError("it is not an object: give the fields post and candidates.")
        return self.queries_of(asked)

    def queries_of(self, asked: Mapping[str, Any]) -> list[Query]:
        """Return the queries of one question, one a candidate; raise PipelineError if it is none."""
        conversation = conversation_of(self.replier, asked)
        # One tuple for all: it is looked at once (`likelihoods.encoded`), and copies of it once a candidate.
        segments = tuple(
            with_turn(self.replier, conversation, each, "accepted").turns[-1][0]
            for each in items_of(asked, "candidates")
        )
        return [Query(conversation.background, conversation.turns, each, segments) for each in segments]

    def scored(self, waiting: Sequence[list[Query] | str]) -> Iterator[dict[str, Any]]:
        """Score the queries of several lines together and yield an answer a line."""
        queries = [query for each in waiting if not isinstance(each, str) for query in each]
        with enough_memory(out_of_memory()):
            scores = self.scorer.score(queries, np.zeros(len(queries), dtype=bool), arranged=self.replier.arranged)
        begin = 0
        for each in waiting:
            if isinstance(each, str):
                yield {"error": each}
                continue
            end = begin + len(each)
            yield {"candidates": figures(scores.log_odds[begin:end], scores.fits[begin:end])}
            begin = end


def figures(log_odds: np.ndarray, fits: np.ndarray) -> list[dict[str, Any]]:
    """Return P(accepted), rank and margin of each candidate, in the order given.

    The margin is the log-odds above those of the next candidate; the last one has none. Ties keep the order given. A
    candidate that is longer than the model's context has no figures.
    """
    order = [int(place) for place in np.argsort(-log_odds, kind="stable") if fits[place]]
    found: list[dict[str, Any]] = [{"p_accepted": None, "rank": None, "margin": None} for _ in log_odds]
    for rank, place in enumerate(order, 1):
        following = order[rank : rank + 1]
        margin = float(log_odds[place] - log_odds[following[0]]) if following else None
        found[place] = {"p_accepted": float(p_accepted(log_odds[place])), "rank": rank, "margin": margin}
    return found
