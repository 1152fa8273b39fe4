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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.arrays import Floats, Ints
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.measures import Measured
from adc_pipeline.evaluation.replies.reply_writer import INDEPENDENT, OWN, REAL, YOKED, Reply

POLICY = "policy_improvement"
REPLIES = "replies.parquet"
# The best of the independent replies, by the judge.
BEST_OF = "best_of"
CONTROLS = (YOKED, INDEPENDENT, BEST_OF, REAL)
# The own replies of an instruct model, a control where the judge names such a model.
INSTRUCT = "instruct"
ALL_CONTROLS = (*CONTROLS, INSTRUCT)
GRAM = 3


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
