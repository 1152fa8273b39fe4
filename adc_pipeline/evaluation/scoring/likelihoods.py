"""Compute log-probabilities of segments in context, with every shared prefix computed once.

All measures send the same query to a model: given a background and some turns with verdicts, how likely is a segment,
and how much likelier is `accepted` than `rejected` after it? Such queries share nearly all of their contexts: siblings
share their ancestors, a turn's two verdicts share the turn. The queries therefore go through the model as rows of
prefix trees (`prefix_tree.py`), in which a shared context stands once, with explicit positions and attention along the
branches only (`tree_attention.py`), no padding, and logits only at the places that a query needs (tree
attention, as in SpecInfer, Miao et al. 2024). Like a key-value cache, this reuses shared contexts, but for whole trees
of queries in one pass and without copies. A probe at loading (`probes.py`) detects models without support for it, such
as state-space models, position biases and windows shorter than the context; they are scored one
query at a time.

On the sample corpus this needs a third of the tokens of one sequence at a time and is 5 to 7 times as fast: 2.3 s
instead of 12.4 s on one core, 1.2 s instead of 8.8 s on two, for 2,405 queries to a model of 0.6 million parameters
(`python -m adc_pipeline_tests.benchmarks.evaluation`).
"""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.arrays import Bools, Floats, Ints
from adc_pipeline.evaluation.scoring.prefix_tree import Path, Row, packed
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from adc_pipeline.training.texts.arrangement import Arrangement
    from adc_pipeline.training.texts.tokens import MarkerTokenizer

Progress = Callable[[str, int, int], None]  # label, done, total

# The fewest tokens of a background that a context is shortened to.
SHORTEST_BACKGROUND = 8

SECONDS_BETWEEN_REPORTS = 2.0


class Query(NamedTuple):
    """A segment after a background and turns, all spelt as in a walk's text, without the markers.

    `siblings` are the segments that it is compared with, including itself: all are scored after one context.
    """

    background: str
    turns: tuple[tuple[str, Verdict], ...]
    segment: str
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """The answers to queries; each array is (queries,).

    Where `fits` is false, the segment is longer than the model's context, and everything else is 0.
    """

    log_probability: Floats  # of the segment, in nats, summed over its tokens; 0 if it was not asked for
    tokens: Ints  # of the segment
    log_odds: Floats  # log P(accepted) − log P(rejected) right after the segment
    fits: Bools
    cut: Bools  # whether the model saw a part of the context only
    turns: Ints  # how many of the context's turns, the nearest ones, it saw


@dataclass(frozen=True)
class Encoded:
    """Queries as paths of pieces; a path that does not fit is empty."""

    paths: list[Path]
    pieces: list[Ints]
    cut: Bools  # (queries,) whether a path holds a part of its context only
    turns: Ints  # (queries,) how many turns of the context are in the path


class PieceNumbers:
    """Numbers pieces of token ids from 0; equal pieces have one number."""

    def __init__(self) -> None:
        self.pieces: list[Ints] = []
        self._number_of: dict[tuple[int, ...], int] = {}

    def number(self, ids: Sequence[int]) -> int:
        number = self._number_of.setdefault(tuple(ids), len(self.pieces))
        if number == len(self.pieces):
            self.pieces.append(np.array(ids, dtype=np.int64))
        return number


def texts_of(queries: Sequence[Query]) -> Iterator[str]:
    """Yield the texts of turns, segments and siblings; siblings that queries share only once."""
    known: set[int] = set()
    for query in queries:
        yield from (turn for turn, _ in query.turns)
        yield query.segment
        if id(query.siblings) not in known:
            known.add(id(query.siblings))
            yield from query.siblings


def encoded(
    queries: Sequence[Query],
    tokenizer: "MarkerTokenizer",
    context_tokens: int,
    own_verdicts: Sequence[Verdict] | None = None,
    arranged: "Arrangement | None" = None,
) -> Encoded:
    """Return the token paths of queries, of at most `context_tokens` each, laid out as the training lays walks out.

    With `own_verdicts`, markers stand before their turns, and each query's segment follows the marker of its verdict in
    `own_verdicts`. `arranged` tells what stands for a verdict (default: its marker).
    A longer context is shortened (see `layout.fit`). Siblings get the room that the longest of them leaves, of those
    that fit at all.
    """
    from adc_pipeline.training.texts.arrangement import Arrangement
    from adc_pipeline.training.texts.layout import fit, lay_out

    told = (arranged or Arrangement()).marked
    texts = dict.fromkeys(texts_of(queries))
    backgrounds = dict.fromkeys(q.background for q in queries)
    ids_of = dict(zip((*texts, *backgrounds), tokenizer.ids([*texts, *backgrounds]), strict=True))
    numbers = PieceNumbers()
    # Numbers decide which paths share a row. This order keeps those of a conversation together.
    for text in texts:
        numbers.number(ids_of[text])
    verdicts: tuple[Verdict, Verdict] = ("rejected", "accepted")
    for verdict in verdicts:
        numbers.number(tokenizer.marker(told(verdict)))
    paths: list[Path] = []
    cut = np.zeros(len(queries), dtype=bool)
    seen = np.zeros(len(queries), dtype=np.int64)
    # Candidates of one question share their tuple of siblings, which may be long.
    smallest: dict[tuple[int, int, int], int | None] = {}
    for index, query in enumerate(queries):
        background, turns = ids_of[query.background], [(ids_of[t], told(v)) for t, v in query.turns]
        unfinished = (ids_of[query.segment], None if own_verdicts is None else told(own_verdicts[index]))
        marker = 0 if own_verdicts is None else len(tokenizer.marker(unfinished[1]))
        least = min(len(tokenizer.prefix_ids) + len(background) + 1, SHORTEST_BACKGROUND)
        own = context_tokens - len(ids_of[query.segment]) - marker
        if own < least:
            paths.append(())
            continue
        key = (id(query.siblings), marker, least)
        if key not in smallest:
            rooms = (context_tokens - len(ids_of[text]) - marker for text in query.siblings)
            smallest[key] = min((room for room in rooms if room >= least), default=None)
        others = smallest[key]
        kept, near = fit(tokenizer, background, turns, own if others is None else min(own, others))
        cut[index] = len(kept) < len(background) or len(near) < len(turns)
        seen[index] = len(near)
        pieces = lay_out(tokenizer, kept, near, unfinished, markers_first=own_verdicts is not None)
        paths.append(tuple(numbers.number(piece) for piece in pieces))
    return Encoded(paths, numbers.pieces, cut, seen)


def p_accepted(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(accepted) among the two verdicts: the logistic function, without overflow."""
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


class Scorer:
    """A causal language model that answers queries."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "MarkerTokenizer", settings: EvaluationSettings) -> None:
        from adc_pipeline.training.architectures.context import context_length
        from adc_pipeline.training.loop.devices import one_device

        self.device = one_device()
        self.model = model.to(self.device).eval()  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.context_tokens = min(context_length(model) or settings.max_context_tokens, settings.max_context_tokens)
        self.row_tokens = settings.row_tokens if self.scores_in_trees() else 0

    @classmethod
    def load(cls, folder: File, settings: EvaluationSettings) -> "Scorer":
        """Load model and tokenizer of a Hugging Face folder, in float32, onto the GPU if there is one."""
        from adc_pipeline.training.architectures.loading import load_model
        from adc_pipeline.training.texts.tokens import MarkerTokenizer

        return cls(load_model(folder), MarkerTokenizer.load(folder), settings)

    @contextmanager
    def attending_in_trees(self) -> Iterator[set[int]]:
        """Have the model attend in trees for the block; yields the ids of the modules that do."""
        from adc_pipeline.evaluation.scoring.tree_attention import NAME, attend_in_trees
        from adc_pipeline.training.architectures.probes import attending_by

        with attending_by(self.model, NAME, attend_in_trees) as callers:
            yield callers

    def scores_in_trees(self) -> bool:
        """Return whether two texts that share a prefix get in one tree the logits that each gets alone.

        The first is as long as a context may be, the second short.
        """
        import torch

        from adc_pipeline.training.architectures.attention import UnsupportedAttention
        from adc_pipeline.training.architectures.probes import Logits, Texts, runs_as_alone

        shared = min(SHORTEST_BACKGROUND, self.context_tokens // 2)

        def together(texts: Texts) -> Logits:
            pieces = [texts[0][:shared].cpu().numpy(), *(text[shared:].cpu().numpy() for text in texts)]
            (row,) = packed([(0, 1), (0, 2)], pieces, sum(map(len, pieces)))
            with self.attending_in_trees() as callers:
                found = self.logits(row, np.arange(len(row.tokens)), in_trees=True)  # (tokens, vocabulary)
            if len(callers) != self.model.config.get_text_config().num_hidden_layers:
                raise UnsupportedAttention
            own = [torch.from_numpy(np.r_[:shared, start:end]) for start, end in zip(row.starts, row.ends, strict=True)]
            return [found[places.to(self.device)] for places in own]

        return runs_as_alone(
            self.model, [self.context_tokens, min(2 * SHORTEST_BACKGROUND, self.context_tokens)], together, shared
        )

    def score(
        self,
        queries: Sequence[Query],
        ask_text: Bools,
        progress: Progress | None = None,
        label: str = "scoring",
        own_verdicts: Sequence[Verdict] | None = None,
        arranged: "Arrangement | None" = None,
    ) -> Scores:
        """Answer `queries`, with the segment's log-probability where `ask_text` is true.

        `own_verdicts` holds each segment's own verdict, for models that read a verdict before its turn. `arranged` is
        the layout of the model's texts (see `encoded`). Raises PipelineError if a probability is
        not finite.
        """
        what = encoded(queries, self.tokenizer, self.context_tokens, own_verdicts, arranged)
        fits = np.array([bool(path) for path in what.paths], dtype=bool)
        asked = np.flatnonzero(fits)
        log_probability, log_odds = np.zeros(len(queries)), np.zeros(len(queries))
        done, reported = 0, time.monotonic()
        in_trees = self.row_tokens > 0
        with self.attending_in_trees() if in_trees else nullcontext():
            for row in packed([what.paths[index] for index in asked], what.pieces, self.row_tokens):
                indices = asked[row.queries]
                log_probability[indices], log_odds[indices] = self.answers(row, ask_text[indices], in_trees)
                done += len(indices)
                if progress is not None and (
                    done == len(asked) or time.monotonic() - reported > SECONDS_BETWEEN_REPORTS
                ):
                    progress(label, done, len(asked))
                    reported = time.monotonic()
        if not (np.isfinite(log_probability).all() and np.isfinite(log_odds).all()):
            raise PipelineError(
                f"The model {self.model.config.name_or_path} gives probabilities that are not finite, so its training"
                " diverged: lower `learning_rate` and train it again."
            )
        tokens = np.array([len(what.pieces[path[-1]]) if path else 0 for path in what.paths], dtype=np.int64)
        return Scores(log_probability, tokens, log_odds, fits, what.cut, what.turns)

    def answers(self, row: Row, ask_text: Bools, in_trees: bool) -> tuple[Floats, Floats]:
        """Return log-probability and log-odds of the queries of one row, in the order of `row.queries`.

        A row of one path needs no trees; otherwise the model has to be `attending_in_trees`.
        """
        import torch

        wanted = np.zeros(len(row.tokens), dtype=bool)
        for start, end in zip(row.starts[ask_text], row.ends[ask_text], strict=True):
            wanted[start:end] = True
        wanted &= row.follows >= 0
        places = np.flatnonzero(wanted)
        # Logits are computed at the places before the asked tokens, and at the last token of each query.
        kept, index = np.unique(np.concatenate([row.follows[places], row.lasts]), return_inverse=True)
        at, after = (torch.from_numpy(part).to(self.device) for part in (index[: len(places)], index[len(places) :]))
        with torch.inference_mode():
            logits = self.logits(row, kept, in_trees).float()  # (kept, vocabulary)
            tokens = torch.from_numpy(row.tokens[places]).to(self.device)
            chosen = logits[at, tokens] - logits.logsumexp(-1)[at]  # (places,)
            odds = logits[after, self.tokenizer.accepted_id] - logits[after, self.tokenizer.rejected_id]  # (queries,)
        # Sums over slices as differences of one running sum.
        running = np.zeros(len(row.tokens) + 1)
        running[places + 1] = chosen.double().cpu().numpy()
        running = running.cumsum()
        text = np.where(ask_text, running[row.ends] - running[row.starts], 0.0)
        return text, odds.double().cpu().numpy()

    def logits(self, row: Row, kept: Ints, in_trees: bool) -> "torch.Tensor":
        """Run the model over a row; return its logits at the places `kept`, (kept, vocabulary)."""
        import torch

        from adc_pipeline.evaluation.scoring.tree_attention import Blocks

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self.device)

        options: dict[str, Any] = {"use_cache": False}
        if in_trees:
            blocks = Blocks.of(row.reach, self.context_tokens, self.device)
            options |= {"trees": blocks, "position_ids": tensor(row.positions)[None]}
        places = tensor(kept)
        found: torch.Tensor
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            found = self.model(input_ids=tensor(row.tokens)[None], logits_to_keep=places, **options).logits[0]
        else:
            found = self.model(input_ids=tensor(row.tokens)[None], **options).logits[0][places]
        return found
