"""Sample how a model continues after a turn was rejected, and after the same turn was accepted.

The result is a table for people, with a few figures that help to read it. All continuations are generated as one batch
with the key-value cache, are at least one token long (most conversations end after an accepted turn, and an empty
sample shows nothing), and end at the first marker. A model that reads a verdict before its turn (`conditional`) is
asked for a turn of that verdict, after an accepted turn. Cost: 16 contexts, two verdicts and 64 tokens take about 0.3 s
for each of two small models on two cores.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer, encoded
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.walks.markers import Verdict

End = Literal["accepted", "rejected", "background", "end", "length"]
Writer = Literal["model", "base model"]

# The prefix of a writer's figures.
PREFIX: dict[Writer, str] = {"model": "", "base model": "base."}
# Characters at the end of the context that the table shows.
PROMPT_TAIL = 400


@dataclass(frozen=True)
class Sample:
    """A continuation of `prompt` and the marker of `verdict`, which most models read as that of the last turn."""

    conversation_id: str
    prompt: str  # the end of the context, without markers
    verdict: Verdict
    writer: Writer
    continuation: str  # without the marker that ended it
    ended: End  # the marker or end of text that ended it, or the maximum length
    valid: bool  # whether markers and other special tokens stand only where the grammar of a walk allows
    words: int
    distinct_1: float | None  # distinct words / words (Li et al. 2016); None without words
    distinct_2: float | None  # distinct bigrams / bigrams
    repetition: float | None  # repeated 4-grams / 4-grams


def distinct(words: list[str], n: int) -> float | None:
    """Return the share of distinct n-grams among the n-grams of `words`."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def sampled_contexts(cases: Cases, most: int) -> list[tuple[str, Query]]:
    """Return one turn X for each conversation, with its context.

    Turns with siblings and replies (as for steering) come first, then the first turns of walks.
    """
    contexts: dict[int, Query] = {}
    for conversation, steered in zip(cases.steerings.conversation, cases.steerings.sibling_if_rejected, strict=True):
        background, (*above, (turn, _)), *_ = cases.queries[steered]
        contexts.setdefault(int(conversation), Query(background, tuple(above), turn))
    for conversation, turn in zip(cases.turns.conversation, cases.turns.turn, strict=True):
        contexts.setdefault(int(conversation), cases.queries[turn])
    return [(cases.conversations[number], query) for number, query in list(contexts.items())[:most]]


def sample(
    scorer: Scorer, cases: Cases, settings: EvaluationSettings, writer: Writer, arranged: Arrangement
) -> list[Sample]:
    """Draw two continuations, after `rejected` and after `accepted`, for each of `settings.samples` contexts."""
    import torch

    from adc_pipeline.generation.decoding import Sampling, continuations, stop_ids

    tokenizer = scorer.tokenizer
    contexts = sampled_contexts(cases, settings.samples)
    labels = {verdict: tokenizer.marker(arranged.marked(verdict)) for verdict in get_args(Verdict)}
    room = scorer.context_tokens - settings.max_new_tokens - max(map(len, labels.values()))
    own_verdicts: list[Verdict] | None = None if cases.own_verdicts is None else ["accepted"] * len(contexts)
    what = encoded([query for _, query in contexts], tokenizer, room, own_verdicts, arranged)
    verdicts: tuple[Verdict, Verdict] = ("rejected", "accepted")
    asked = [
        (conversation, query, verdict, [*(id for piece in path for id in what.pieces[piece]), *labels[verdict]])
        for (conversation, query), path in zip(contexts, what.paths, strict=True)
        if path
        for verdict in verdicts
    ]
    if not asked:
        return []
    with torch.random.fork_rng():
        torch.manual_seed(settings.draw_seed)
        # Not constrained by the grammar: whether the model follows it is one of the figures.
        sampling = Sampling(settings.temperature, top_p=1.0, max_new_tokens=settings.max_new_tokens)
        drawn = continuations(scorer.model, [ids for *_, ids in asked], stop_ids(tokenizer), sampling)
    ends: dict[Verdict, set[End]] = {verdict: {"accepted", "rejected", "length"} for verdict in verdicts}
    if own_verdicts is not None:
        # Where markers stand before turns, the end of the text ends a walk's last turn, which is accepted.
        ends["accepted"].add("end")
    return [
        as_sample(scorer, conversation, query, verdict, writer, ids, ends[verdict])
        for (conversation, query, verdict, _), ids in zip(asked, drawn, strict=True)
    ]


def as_sample(
    scorer: Scorer, conversation: str, query: Query, verdict: Verdict, writer: Writer, ids: list[int], ends: set[End]
) -> Sample:
    """Make a row of the table from the token ids of a continuation; `ends` are the valid ends of a turn."""
    tokenizer = scorer.tokenizer
    meanings: dict[int, End] = {
        tokenizer.accepted_id: "accepted",
        tokenizer.rejected_id: "rejected",
        tokenizer.background_id: "background",
        **dict.fromkeys(tokenizer.eos_ids, "end"),
    }
    ended: End = meanings.get(ids[-1], "length")
    content = ids if ended == "length" else ids[:-1]
    continuation = str(tokenizer.tokenizer.decode(content, skip_special_tokens=True))
    continuation = continuation.removeprefix(tokenizer.text_prefix)
    words = continuation.split()
    fresh = distinct(words, 4)
    return Sample(
        conversation_id=conversation,
        prompt="\n\n".join([query.background, *(turn for turn, _ in query.turns), query.segment])[-PROMPT_TAIL:],
        verdict=verdict,
        writer=writer,
        continuation=continuation,
        ended=ended,
        valid=ended in ends and not set(content) & set(tokenizer.tokenizer.all_special_ids),
        words=len(words),
        distinct_1=distinct(words, 1),
        distinct_2=distinct(words, 2),
        repetition=None if fresh is None else 1 - fresh,
    )


def sample_figures(samples: list[Sample]) -> dict[str, float | None]:
    """Return means over the samples after each verdict, as `samples.VERDICT.FIGURE`; None without samples.

    The figures of the base model have the prefix `base.`.
    """
    figures: dict[str, float | None] = {}
    for writer, verdict in product(get_args(Writer), get_args(Verdict)):
        of = [sample for sample in samples if (sample.writer, sample.verdict) == (writer, verdict)]
        for name in ("words", "distinct_1", "distinct_2", "repetition", "valid"):
            known = [float(value) for sample in of if (value := getattr(sample, name)) is not None]
            figures[PREFIX[writer] + f"samples.{verdict}.{name}"] = sum(known) / len(known) if known else None
    return figures


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Write the table as Parquet, one row per sample."""
    import dataclasses

    import pyarrow as pa
    import pyarrow.parquet

    kinds = {"valid": pa.bool_(), "words": pa.int64()}
    figures = ("distinct_1", "distinct_2", "repetition")
    kinds |= dict.fromkeys(figures, pa.float64())
    schema = pa.schema({f.name: kinds.get(f.name, pa.string()) for f in dataclasses.fields(Sample)})
    rows = [dataclasses.asdict(sample) for sample in samples]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
