"""Have a model write replies to contexts: after its own rejected ones, and after the histories of the controls."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from adc_pipeline.evaluation.arrays import Floats
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.generation.conversation import Conversation, prompt_ids
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.texts.arrangement import Arrangement

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adc_pipeline.evaluation.scoring.likelihoods import Progress, Scorer
    from adc_pipeline.generation.batch import Batch


# The series of replies; `policy` says what each is.
OWN, YOKED, INDEPENDENT, REAL = "own", "yoked", "independent", "real"


@dataclass(frozen=True)
class Reply:
    """A reply that the model wrote after `k` rejected ones."""

    context: int  # index of the context
    series: str
    k: int
    turn: str  # as appended to a walk: the speaker's line, if the dataset has speakers, and the text
    text: str


def partners(contexts: Sequence[Context]) -> list[int] | None:
    """Return for each context the index of the one whose replies it is yoked to: the next of about the same depth.

    None if there are fewer than two. Contexts are of different conversations, so no context gets its own history.
    """
    if len(contexts) < 2:
        return None
    order = sorted(range(len(contexts)), key=lambda index: (len(contexts[index].turns), contexts[index].conversation))
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [following[index] for index in range(len(contexts))]


def uniform_numbers(seed: int, name: str, k: int, count: int) -> Floats:
    """Return the random numbers of a context's replies after `k` rejected ones, below 1, (count,).

    MD5 of `SEED:reply:NAME:K` is the key of a Philox generator (Salmon et al. 2011), whose stream numpy guarantees.
    """
    digest = hashlib.md5(f"{seed}:reply:{name}:{k}".encode(), usedforsecurity=False).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest))).random(count)


class Author(Protocol):
    """A model that writes replies, with its way to read a context and to spell a reply."""

    model: "PreTrainedModel"
    context_tokens: int  # the longest text that it reads
    stops: list[int]  # ids that end a reply

    def prompt(self, context: Context, rejected: Sequence[str], room: int) -> list[int]:
        """Return the ids, at most `room`, of a context in which some turns are rejected."""

    def turn(self, ids: Iterable[int]) -> str:
        """Return ids that were written as a turn, which can be rejected."""

    def text(self, turn: str) -> str:
        """Return a turn's text, without the speaker's line."""


class Trained:
    """A model that was trained on walks."""

    def __init__(self, scorer: "Scorer", arranged: Arrangement, speaks: bool) -> None:
        """`speaks` says whether a turn begins with its speaker's line."""
        from adc_pipeline.generation.decoding import Spelling, stop_ids

        self.model, self.tokenizer, self.context_tokens = scorer.model, scorer.tokenizer, scorer.context_tokens
        self.arranged = arranged
        self.stops = stop_ids(scorer.tokenizer)
        self.spelling = Spelling(scorer.tokenizer, speaks)

    def prompt(self, context: Context, rejected: Sequence[str], room: int) -> list[int]:
        conversation = Conversation(context.background, context.turns)
        for turn in rejected:
            conversation = conversation.after(turn, "rejected", self.tokenizer.markers)
        return prompt_ids(conversation, self.tokenizer, self.arranged, room)

    def turn(self, ids: Iterable[int]) -> str:
        return self.spelling.text(ids)

    def text(self, turn: str) -> str:
        return self.spelling.parts(turn)[1]


class Writer:
    """Has a model write the replies of all series."""

    def __init__(self, author: Author, sampling: Sampling, seed: int, rows: int = 0) -> None:
        """`rows` limits a batch (0: by its memory)."""
        from adc_pipeline.generation.batch import grows, rows_at_once

        self.author = author
        self.sampling = sampling
        self.seed = seed
        self.grows = grows(author.model, author.context_tokens)
        self.rows = rows or rows_at_once(author.model, author.context_tokens)

    def write(
        self, contexts: Sequence[Context], names: Sequence[str], most: int, progress: "Progress | None" = None
    ) -> list[Reply]:
        """Write the replies after 0 to `most` rejected ones; `names` name the contexts in all corpora and batches."""
        own = self.own(contexts, names, most, progress)
        turn_of = {(reply.context, reply.k): reply.turn for reply in own}
        yoked = partners(contexts)
        asked: list[tuple[int, str, int, tuple[str, ...]]] = []
        for index, context in enumerate(contexts):
            for k in range(1, most + 1):
                asked.append((index, INDEPENDENT, k, ()))
                if yoked is not None:
                    asked.append((index, YOKED, k, tuple(turn_of[yoked[index], before] for before in range(k))))
                if len(context.siblings) >= k:
                    asked.append((index, REAL, k, context.siblings[:k]))
        # Sequences of about the same length share a batch.
        asked.sort(key=lambda each: (len(each[3]), each[1], each[0]))
        controls: list[Reply] = []
        for start in range(0, len(asked), self.rows):
            controls += self._each(contexts, names, asked[start : start + self.rows])
            if progress:
                progress("replies of the controls", len(controls), len(asked))
        return own + controls

    def own(
        self,
        contexts: Sequence[Context],
        names: Sequence[str],
        most: int,
        progress: "Progress | None" = None,
        series: str = OWN,
    ) -> list[Reply]:
        """Write the replies after 0 to `most` own ones that are rejected, without the controls."""
        own, wanted = [], len(contexts) * (most + 1)
        for start in range(0, len(contexts), self.rows):
            for reply in self._own(contexts, names, start, most, series):
                own.append(reply)
                if progress and (len(own) % self.rows == 0 or len(own) == wanted):
                    progress(f"{series} replies", len(own), wanted)
        return own

    def independent(self, contexts: Sequence[Context], names: Sequence[str], count: int) -> list[Reply]:
        """Write `count` replies to each context, all without a history."""
        asked = [(index, INDEPENDENT, k, ()) for index in range(len(contexts)) for k in range(count)]
        starts = range(0, len(asked), self.rows)
        return [reply for start in starts for reply in self._each(contexts, names, asked[start : start + self.rows])]

    def _own(
        self, contexts: Sequence[Context], names: Sequence[str], start: int, most: int, series: str
    ) -> Iterator[Reply]:
        """Write the replies of one batch of contexts, each after the model's own earlier ones."""
        indices = range(start, min(start + self.rows, len(contexts)))
        histories: list[tuple[str, ...]] = [()] * len(indices)
        batch = self._batch()
        for k in range(most + 1):
            prompts = [self._prompt(contexts[index], turns) for index, turns in zip(indices, histories, strict=True)]
            numbers = self._numbers((names[index], k) for index in indices)
            turns = [self.author.turn(ids) for ids in batch.draw(prompts, numbers, last=k == most)]
            histories = [(*before, turn) for before, turn in zip(histories, turns, strict=True)]
            yield from (self._reply(index, series, k, turn) for index, turn in zip(indices, turns, strict=True))

    def _each(
        self,
        contexts: Sequence[Context],
        names: Sequence[str],
        asked: Sequence[tuple[int, str, int, tuple[str, ...]]],
    ) -> Iterator[Reply]:
        """Write one batch of replies that do not depend on each other."""
        prompts = [self._prompt(contexts[index], history) for index, _, _, history in asked]
        numbers = self._numbers((names[index], k) for index, _, k, _ in asked)
        for (index, series, k, _), ids in zip(asked, self._batch().draw(prompts, numbers, last=True), strict=True):
            yield self._reply(index, series, k, self.author.turn(ids))

    def _batch(self) -> "Batch":
        from adc_pipeline.generation.batch import Batch

        return Batch(self.author.model, self.author.stops, self.sampling, self.grows)

    def _prompt(self, context: Context, rejected: Sequence[str]) -> list[int]:
        return self.author.prompt(context, rejected, self.author.context_tokens - self.sampling.max_new_tokens)

    def _numbers(self, of: Iterator[tuple[str, int]]) -> Floats:
        return np.stack([uniform_numbers(self.seed, name, k, self.sampling.max_new_tokens) for name, k in of])

    def _reply(self, index: int, series: str, k: int, turn: str) -> Reply:
        return Reply(index, series, k, turn, self.author.text(turn))


def names_of(contexts: Sequence[Context], conversations: Sequence[str]) -> list[str]:
    """Return the names by which `Writer` draws random numbers; `conversations` are the ids by number."""
    return [f"{conversations[context.conversation]}:{context.case}" for context in contexts]
