"""Policy improvement: whether a model's replies get better while its own earlier replies stand rejected in the context.

In a held-out context the model writes a reply; it is marked rejected and appended; the model writes again, up to
`rejections` times. A judge (`judge.py`) scores each reply. Context, model and random numbers are the same in the
controls:

- *independent*: draws without a history, and *best-of-n*, the best of as many of them by the judge. Sampling often and
  choosing is what improvement in context competes with.
- *yoked*: the history is that of another conversation's context, so that it has the number and the form of rejected
  replies, but not their content. What is left of an improvement is counting; own minus yoked is what reading one's own
  history adds to the judge's score. Where quality does not depend on the thread, as on the sample, it is near 0 even
  for a model that reads.
- *real*: the history is people's replies in this place but the best, worst first, as many as there are.
- *instruct*, if there is such a model: the own replies of a model that was not trained on walks (`instruct.py`).

In-context improvement is that of Laskin et al. 2022, *In-context Reinforcement Learning with Algorithm Distillation*;
that others' errors need not teach to correct one's own is Kumar et al. 2024, *Training Language Models to Self-Correct
via Reinforcement Learning*. A draw depends on the context and the number of rejections alone (`generation/batch.py`).

Cost: 2,036 replies to the sample's 125 contexts take 12 s of one core with other work on it (0.6 million parameters).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.arrays import Floats, Ints
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.evaluation.judge import Judge
from adc_pipeline.evaluation.measures import Measured
from adc_pipeline.generation.conversation import Conversation, prompt_ids
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.arrangement import Arrangement

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adc_pipeline.evaluation.scoring.likelihoods import Progress, Scorer
    from adc_pipeline.generation.batch import Batch

POLICY = "policy_improvement"
REPLIES = "replies.parquet"
# The series of replies, and the best of the independent ones.
OWN, YOKED, INDEPENDENT, REAL = "own", "yoked", "independent", "real"
BEST_OF = "best_of"
CONTROLS = (YOKED, INDEPENDENT, BEST_OF, REAL)
# The own replies of an instruct model, a control where the judge names such a model.
INSTRUCT = "instruct"
ALL_CONTROLS = (*CONTROLS, INSTRUCT)
GRAM = 3


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


@dataclass(frozen=True)
class Judged:
    """Replies with the judge's scores, and whether the judge could read them; all (replies,)."""

    replies: list[Reply]
    score: Floats
    parses: NDArray[np.bool_]

    def table(self, series: str, contexts: int, most: int) -> Floats:
        """Return the scores of a series, (contexts, most + 1), NaN where there is no reply."""
        table = np.full((contexts, most + 1), np.nan)
        for reply, score in zip(self.replies, self.score, strict=True):
            # The first draw is that of all series of a model.
            if reply.series == series or (reply.series == OWN and reply.k == 0 and series != INSTRUCT):
                table[reply.context, reply.k] = score
        return table


def judged(replies: list[Reply], judge: Judge, posts: Sequence[str]) -> Judged:
    """Score the replies; `posts`, (contexts,), are what they reply to."""
    score, parses = judge.scores([reply.text for reply in replies], [posts[reply.context] for reply in replies])
    return Judged(replies, score, parses)


def measured(found: Judged, contexts: Sequence[Context], most: int, instruct: bool = False) -> list[Measured]:
    """Return the measures of policy improvement.

    `policy_improvement` is the judge's score of the reply after `most` rejections minus that of the first reply, and
    `.first_step` that of the second minus the first; `.minus_CONTROL` is the score after `most` rejections minus the
    control's, `.minus_yoked.kK` that after K. `.kK` is the mean score after K rejections, `.CONTROL.kK` the control's.
    `instruct` says that an instruct model is among the controls.
    """
    controls = ALL_CONTROLS if instruct else CONTROLS
    of = {series: found.table(series, len(contexts), most) for series in (OWN, YOKED, INDEPENDENT, REAL, INSTRUCT)}
    own = of[OWN]
    of[BEST_OF] = np.maximum.accumulate(of[INDEPENDENT], axis=1)
    conversation = np.array([context.conversation for context in contexts], dtype=np.int64)
    case = np.array([context.case for context in contexts], dtype=np.str_)

    def mean(name: str, values: Floats, until: str = "") -> Measured:
        known = ~np.isnan(values)
        names = np.array([f"{each}{until}" for each in case[known]], dtype=np.str_)
        return Measured(f"{POLICY}{name}", conversation[known], names, values[known], np.ones(known.sum()))

    last = f"/{most}"
    return [
        mean("", own[:, most] - own[:, 0], last),
        *(mean(f".minus_{series}", own[:, most] - of[series][:, most], last) for series in controls),
        *(mean(f".minus_{YOKED}.k{k}", own[:, k] - of[YOKED][:, k]) for k in range(1, most + 1)),
        mean(".first_step", own[:, 1] - own[:, 0]),
        *(mean(f".k{k}", own[:, k]) for k in range(most + 1)),
        *(mean(f".{series}.k{k}", of[series][:, k]) for series in controls for k in range(1, most + 1)),
        *([mean(f".{INSTRUCT}.k0", of[INSTRUCT][:, 0])] if instruct else []),
    ]


def described(found: Judged, contexts: Sequence[Context]) -> list[Measured]:
    """Return the measures that need no judgement, over the model's own replies.

    `.differs` is the share of replies after a rejection whose words differ from those of every reply before, `.novelty`
    the mean share of their 3-grams of words that no reply before has (0 for a reply without one), `.parses` the share
    of all replies that the judge can read.
    """
    words_of = {
        (reply.context, reply.k): (reply.text.casefold().split(), bool(parses))
        for reply, parses in zip(found.replies, found.parses, strict=True)
        if reply.series == OWN
    }
    differs, novelty, parsed = [], [], []
    for (index, k), (words, parses) in words_of.items():
        parsed.append((index, k, float(parses)))
        if k:
            before = [words_of[index, earlier][0] for earlier in range(k)]
            differs.append((index, k, float(words not in before)))
            seen = {gram for each in before for gram in grams(each)}
            fresh = [gram not in seen for gram in grams(words)]
            novelty.append((index, k, sum(fresh) / len(fresh) if fresh else 0.0))
    named = {".differs": differs, ".novelty": novelty, ".parses": parsed}
    return [share(name, rows, contexts) for name, rows in named.items()]


def share(name: str, rows: Sequence[tuple[int, int, float]], contexts: Sequence[Context]) -> Measured:
    """Return a measure of rows of context, k and value."""
    conversation: Ints = np.array([contexts[index].conversation for index, _, _ in rows], dtype=np.int64)
    case = np.array([f"{contexts[index].case}/{k}" for index, k, _ in rows], dtype=np.str_)
    value = np.array([value for _, _, value in rows], dtype=np.float64)
    return Measured(f"{POLICY}{name}", conversation, case, value, np.ones(len(rows)))


def grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)]


def names_of(contexts: Sequence[Context], conversations: Sequence[str]) -> list[str]:
    """Return the names by which `Writer` draws random numbers; `conversations` are the ids by number."""
    return [f"{conversations[context.conversation]}:{context.case}" for context in contexts]


def write_replies(path: Path, found: Judged, contexts: Sequence[Context], conversations: Sequence[str]) -> None:
    """Write the table of replies as Parquet: context, series, k, the reply as a turn, its text, its score."""
    import pyarrow as pa
    import pyarrow.parquet

    rows = [
        {
            "conversation_id": conversations[contexts[reply.context].conversation],
            "reply_to": contexts[reply.context].case,
            "series": reply.series,
            "k": reply.k,
            "turn": reply.turn,
            "text": reply.text,
            "score": float(score),
            "parses": bool(parses),
        }
        for reply, score, parses in zip(found.replies, found.score, found.parses, strict=True)
    ]
    kinds = {"k": pa.int64(), "score": pa.float64(), "parses": pa.bool_()}
    names = ("conversation_id", "reply_to", "series", "k", "turn", "text", "score", "parses")
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
