"""Log-probabilities of segments in context, with every shared prefix computed once.

All measures ask the same of a model: given a background and some turns with verdicts, how likely is this
segment, and after it, how much likelier is `accepted` than `rejected`? Such queries share nearly all of
their contexts: siblings share their ancestors, a turn's two verdicts share the turn. So the queries go
through the model as rows of prefix trees (`prefix_tree.py`), in which a shared context stands once, with
explicit positions and attention along the branches only (`tree_attention.py`), no padding, and logits only
where something is asked (tree attention, as in SpecInfer, Miao et al. 2024). That does for whole trees of
queries, in one pass, what a key-value cache would do for one context at a time; nothing has to be copied.
A model whose attention cannot do this (state-space models, position biases) is found by a probe when it is
loaded, and scored one query at a time.

On the sample corpus a third of the tokens, and 5 to 7 times the speed, of one sequence at a time: 2.3 s
instead of 12.4 s on one core, 1.2 s instead of 8.8 s on two, for 2,405 queries to a model of 0.6 million parameters
(`python -m adc_pipeline_tests.benchmarks.evaluation`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.prefix_tree import Path, Row, packed
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.conversation import fitted
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adc_pipeline.training.tokens import MarkerTokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Progress = Callable[[str, int, int], None]  # what is being done, how much of it, out of how much

# Tokens of a background that are kept at least where a context has to be cut.
SHORTEST_BACKGROUND = 8

SECONDS_BETWEEN_REPORTS = 2.0


class Query(NamedTuple):
    """A segment after a background and turns, all as they stand in a walk's text, without the markers.

    `siblings` are the segments that it is compared with, itself among them: all are asked about after one context.
    """

    background: str
    turns: tuple[tuple[str, Verdict], ...]
    segment: str
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """What a model says of each query; the arrays run alongside the queries.

    `log_probability` is the sum over the segment's tokens in nats, 0 where it was not asked for;
    `log_odds` is log P(accepted) − log P(rejected) right after the segment. Where `fits` is false the
    segment is longer than the model's context and all else is 0; where `cut` is true it saw a part of
    its context only, of the turns in it the `turns` nearest.
    """

    log_probability: Floats
    tokens: Ints
    log_odds: Floats
    fits: Bools
    cut: Bools
    turns: Ints


@dataclass(frozen=True)
class Encoded:
    """Queries as paths of pieces; a path that does not fit is empty."""

    paths: list[Path]
    pieces: list[Ints]
    cut: Bools
    turns: Ints  # of each query's context, how many are in its path


def encoded(
    queries: Sequence[Query],
    tokenizer: "MarkerTokenizer",
    context_tokens: int,
    told: Sequence[Verdict] | None = None,
    marked: bool = True,
) -> Encoded:
    """Token paths of at most `context_tokens`, each turn followed by its marker.

    With `told`, markers stand before their turns, and each query's segment comes after the verdict in `told`.
    Unless `marked`, a line break stands in place of every marker.
    A longer context keeps the start of its background and its nearest turns: half of the room to the
    background, or what the turns leave of it. Siblings have the room that the longest of them leaves, of those that
    fit at all.
    """
    texts = dict.fromkeys(text for q in queries for text in (*(turn for turn, _ in q.turns), q.segment, *q.siblings))
    backgrounds = dict.fromkeys(q.background for q in queries)
    pieces = [np.array(ids, dtype=np.int64) for ids in tokenizer.ids(list(texts))]
    piece_of = {text: index for index, text in enumerate(texts)}
    marker_of: dict[Verdict, int] = {"rejected": len(pieces), "accepted": len(pieces) + 1}
    line_break = np.array(tokenizer.ids(["\n"])[0])
    pieces += [np.array([tokenizer.marker_id(verdict)]) if marked else line_break for verdict in marker_of]
    ids_of = dict(zip(backgrounds, tokenizer.ids(list(backgrounds)), strict=True))
    background_pieces: dict[tuple[str, int], int] = {}

    def background(text: str, tokens: int) -> int:
        if (text, tokens) not in background_pieces:
            kept = [*tokenizer.bos_ids, *ids_of[text]][: tokens - 1]
            background_pieces[text, tokens] = len(pieces)
            pieces.append(np.array([*kept, tokenizer.background_id]))
        return background_pieces[text, tokens]

    paths: list[Path] = []
    cut = np.zeros(len(queries), dtype=bool)
    seen = np.zeros(len(queries), dtype=np.int64)
    for index, query in enumerate(queries):
        segment, siblings = piece_of[query.segment], [piece_of[text] for text in query.siblings]
        turns = [(piece_of[text], marker_of[verdict]) for text, verdict in query.turns]
        sizes = [len(pieces[turn]) + 1 for turn, _ in turns]
        whole = len(tokenizer.bos_ids) + len(ids_of[query.background]) + 1
        ending = (segment,) if told is None else (marker_of[told[index]], segment)
        rooms = {piece: context_tokens - len(pieces[piece]) - len(ending) + 1 for piece in (segment, *siblings)}
        least = min(whole, SHORTEST_BACKGROUND)
        if rooms[segment] < least:
            paths.append(())
            continue
        room = min(left for left in rooms.values() if left >= least)
        kept, nearest = fitted(whole, sizes, room)
        cut[index] = kept < whole or nearest > 0
        seen[index] = len(turns) - nearest
        start = background(query.background, kept)
        near = [turn if told is None else turn[::-1] for turn in turns[nearest:]]
        paths.append((start, *(piece for turn in near for piece in turn), *ending))
    return Encoded(paths, pieces, cut, seen)


class Scorer:
    """A causal language model that answers queries."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "MarkerTokenizer", settings: EvaluationSettings) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).eval()  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        longest = getattr(model.config, "max_position_embeddings", None) or settings.max_context_tokens
        self.context_tokens: int = min(longest, settings.max_context_tokens)
        self.row_tokens = settings.row_tokens if self.honours_trees() else 0

    @classmethod
    def load(cls, folder: File, settings: EvaluationSettings) -> "Scorer":
        """The model and tokenizer of a Hugging Face folder, in float32, on the GPU where there is one."""
        import torch
        from transformers import AutoModelForCausalLM

        from adc_pipeline.training.tokens import MarkerTokenizer

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        return cls(model, MarkerTokenizer.load(folder), settings)

    @contextmanager
    def attending_in_trees(self) -> Iterator[None]:
        """For the block, the model attends as `tree_attention.py` says; generation, say, needs its own way."""
        from transformers import AttentionInterface

        from adc_pipeline.evaluation.tree_attention import NAME, CannotAttendInTrees, attend_in_trees

        before = self.model.config._attn_implementation
        AttentionInterface.register(NAME, attend_in_trees)
        self.model.set_attn_implementation(NAME)
        try:
            # Some models only warn that they have no other way.
            if self.model.config._attn_implementation != NAME:
                raise CannotAttendInTrees
            yield
        finally:
            self.model.set_attn_implementation(before)

    def honours_trees(self) -> bool:
        """Whether two paths in one row get what each of them gets alone.

        Up to a hundredth of what they would be wrong by if the second saw the first, since a model that
        knows nothing gives nearly the same whatever it sees. Some models see too much there, others fail in
        whatever way their code happens to.
        """
        from adc_pipeline.evaluation.tree_attention import CannotAttendInTrees

        pieces = [np.arange(1, 9), np.arange(9, 1, -1), np.arange(3, 6)]
        paths: list[Path] = [(0, 1, 2), (0, 2, 1)]

        def texts(row_tokens: int, in_trees: bool) -> Floats:
            rows = packed(paths, pieces, row_tokens)
            answers = [self.answers(row, np.ones(len(row.queries), dtype=bool), in_trees) for row in rows]
            return np.concatenate([text for text, _ in answers])

        alone, wrong = texts(0, False), texts(64, False)
        try:
            with self.attending_in_trees():
                together = texts(64, True)
        except (CannotAttendInTrees, AttributeError, TypeError, ValueError, IndexError, RuntimeError):
            return False
        return bool(np.linalg.norm(together - alone) <= 0.01 * np.linalg.norm(wrong - alone))

    def score(
        self,
        queries: Sequence[Query],
        ask_text: Bools,
        progress: Progress | None = None,
        label: str = "scoring",
        told: Sequence[Verdict] | None = None,
        marked: bool = True,
    ) -> Scores:
        """Answers to `queries`; the segment's own log-probability only where `ask_text`.

        `told` is for models that read a verdict before its turn: each segment's own. Not `marked` is for those
        whose texts had no markers (see `encoded`).

        Raises PipelineError where the model answers with something that is not a number.
        """
        what = encoded(queries, self.tokenizer, self.context_tokens, told, marked)
        fits = np.array([bool(path) for path in what.paths], dtype=bool)
        asked = np.flatnonzero(fits)
        log_probability, log_odds = np.zeros(len(queries)), np.zeros(len(queries))
        done, said = 0, time.monotonic()
        in_trees = self.row_tokens > 0
        with self.attending_in_trees() if in_trees else nullcontext():
            for row in packed([what.paths[index] for index in asked], what.pieces, self.row_tokens):
                indices = asked[row.queries]
                log_probability[indices], log_odds[indices] = self.answers(row, ask_text[indices], in_trees)
                done += len(indices)
                if progress is not None and (done == len(asked) or time.monotonic() - said > SECONDS_BETWEEN_REPORTS):
                    progress(label, done, len(asked))
                    said = time.monotonic()
        if not (np.isfinite(log_probability).all() and np.isfinite(log_odds).all()):
            raise PipelineError(
                f"The model {self.model.config.name_or_path} gives probabilities that are not numbers, so its"
                " training diverged: lower `learning_rate` and train it again."
            )
        tokens = np.array([len(what.pieces[path[-1]]) if path else 0 for path in what.paths], dtype=np.int64)
        return Scores(log_probability, tokens, log_odds, fits, what.cut, what.turns)

    def answers(self, row: Row, ask_text: Bools, in_trees: bool) -> tuple[Floats, Floats]:
        """Log-probability and log-odds of the queries of one row, alongside `row.queries`.

        A row of one path needs no trees; otherwise the model has to be `attending_in_trees`.
        """
        import torch

        from adc_pipeline.evaluation.tree_attention import Blocks

        wanted = np.zeros(len(row.tokens), dtype=bool)
        for start, end in zip(row.starts[ask_text], row.ends[ask_text], strict=True):
            wanted[start:end] = True
        wanted &= row.follows >= 0
        places = np.flatnonzero(wanted)
        kept, index = np.unique(np.concatenate([row.follows[places], row.lasts]), return_inverse=True)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self.device)

        tree: dict[str, Any] = {}
        if in_trees:
            blocks = Blocks.of(row.reach, self.context_tokens, self.device)
            tree = {"trees": blocks, "position_ids": tensor(row.positions)[None]}
        at, after = tensor(index[: len(places)]), tensor(index[len(places) :])
        with torch.inference_mode():
            logits = (
                self.model(input_ids=tensor(row.tokens)[None], logits_to_keep=tensor(kept), use_cache=False, **tree)
                .logits[0]
                .float()
            )
            chosen = logits[at, tensor(row.tokens[places])] - logits.logsumexp(-1)[at]
            odds = logits[after, self.tokenizer.accepted_id] - logits[after, self.tokenizer.rejected_id]
        # Sums over slices as differences of one running sum.
        running = np.zeros(len(row.tokens) + 1)
        running[places + 1] = chosen.double().cpu().numpy()
        running = running.cumsum()
        text = np.where(ask_text, running[row.ends] - running[row.starts], 0.0)
        return text, odds.double().cpu().numpy()
