"""A second round: a model learns from its own draws, ranked by the judge and written as ascending walks.

SCoRe (Kumar et al. 2024, https://arxiv.org/abs/2409.12917) finds that learning from others' errors does not teach to
correct one's own; RISE (Qu et al. 2024, https://arxiv.org/abs/2407.18219) therefore trains on the model's own attempts
in turn. Here, after a first part of the steps, the model writes `DRAWS` replies to each of some contexts of the
training split. The judge scores them, and a walk shows the records of their order of drawing: each reply that scores
higher than all before it, the last and best of them accepted. The rest of the steps learns from these walks (`own`).

The control (`people`) continues for as many steps on people's walks about the same contexts: of every walk of the
dataset that serves as a context, the turns of that place in place of the draws. Both arms share the first part, the
contexts, and the accepted turns above the place; they differ in the replies.

A context is one place of a walk, chosen by a hash, in the first `CONTEXTS` conversations by another. A reply that the
judge cannot read counts as the worst; a context without a reply that it can read is excluded. The judge that ranks the
draws is the one that scores the replies of the evaluation, so that an arm may learn what the judge likes rather than
what people do: read its other measures beside it. Where the judge decides nothing (accuracy below 0.60), the draws are
ranked by what is close to chance, and the evaluation says that its score is not testable.

Cost: the replies, 8,000 of them about a minute of one core for the small model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.evaluation.judging.judge import Judge
from adc_pipeline.evaluation.judging.reward import post_of
from adc_pipeline.evaluation.replies.policy import judged
from adc_pipeline.evaluation.replies.reply_writer import Reply, Trained, Writer
from adc_pipeline.evaluation.scoring.likelihoods import Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.conversation import Conversation, neutral
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.training.texts.facts import ModelFacts
from adc_pipeline.training.texts.layout import segments, sibling_groups
from adc_pipeline.walks.markers import FORMATS, Markers, Verdict

# Replies to a context, and contexts.
DRAWS, CONTEXTS = 8, 1000

Turns = Sequence[tuple[str, Verdict]]


@dataclass(frozen=True)
class Place:
    """A place of a walk of the training split: the turns above it, which are accepted, and people's turns there."""

    conversation_id: str
    background: str
    path: Turns
    turns: Turns


def places(dataset: Path, seed: int, most: int, markers: Markers) -> list[Place]:
    """Choose at most `most` places of the training split, one of each conversation."""

    def drawn(*parts: object) -> str:
        return hashlib.md5(":".join(map(str, (seed, "second", *parts))).encode(), usedforsecurity=False).hexdigest()

    first: dict[str, Mapping[str, Any]] = {}
    for walk in read_walks(dataset, "train"):
        first.setdefault(walk["conversation_id"], walk)
    chosen = sorted(first, key=lambda name: (drawn(name), name))[:most]
    return [place_of(first[name], int(drawn("place", name), 16), markers) for name in chosen]


def place_of(walk: Mapping[str, Any], number: int, markers: Markers) -> Place:
    """Return one of the places of a walk by a number."""
    background, *texts = segments(walk, markers)
    turns = [(text, turn["verdict"]) for text, turn in zip(texts, walk["turns"], strict=True)]
    groups = sibling_groups(walk["turns"])
    group = number % (groups[-1] + 1)
    path = [turn for turn, own in zip(turns, groups, strict=True) if own < group and turn[1] == "accepted"]
    here = [turn for turn, own in zip(turns, groups, strict=True) if own == group]
    return Place(walk["conversation_id"], background, path, here)


def own_turns(
    model: Path, chosen: Sequence[Place], judge: Judge, speakers: str, settings: EvaluationSettings, seed: int
) -> list[Turns]:
    """Have the model write replies in each place; return the records of their order, empty where none can be read."""
    scorer = Scorer.load(model, settings)
    sampling = Sampling(settings.temperature, 1.0, settings.reply_tokens)
    writer = Writer(Trained(scorer, ModelFacts.read(model).arrangement, speakers != "none"), sampling, seed)
    contexts = [Context(number, "", place.background, tuple(place.path), ()) for number, place in enumerate(chosen)]
    replies = writer.independent(contexts, [f"second:{place.conversation_id}" for place in chosen], DRAWS)
    posts = [post_of(context.background, context.turns, speakers != "none") for context in contexts]
    found = judged(replies, judge, posts)
    of: list[list[tuple[Reply, float]]] = [[] for _ in chosen]
    for reply, score, parses in zip(found.replies, found.score, found.parses, strict=True):
        of[reply.context].append((reply, score if parses else float("-inf")))
    return [records([(reply.turn, score) for reply, score in sorted(each, key=by_draw)]) for each in of]


def by_draw(scored: tuple[Reply, float]) -> int:
    return scored[0].k


def records(scored: Sequence[tuple[str, float]]) -> Turns:
    """Return the replies that score higher than all before them, the last one accepted; none if none can be read."""
    best = float("-inf")
    shown: list[str] = []
    for turn, score in scored:
        if score > best or not shown:
            shown.append(turn)
            best = max(best, score)
    if best == float("-inf"):
        return []
    return [*((turn, "rejected") for turn in shown[:-1]), (shown[-1], "accepted")]


def row(place: Place, turns: Turns, markers: Markers) -> dict[str, Any]:
    """Return the row of a dataset with these turns in a place; a turn's text includes its speaker's line."""
    conversation = Conversation(place.background, tuple((neutral(text, markers), own) for text, own in place.path))
    for text, verdict in turns:
        conversation = conversation.after(text, verdict, markers)
    written, told = len(place.background) + len(markers.background), []
    for number, (text, verdict) in enumerate(conversation.turns):
        at = number - len(place.path)
        told.append(
            {
                "utterance_id": f"{place.conversation_id}:{number}",
                "speaker": None,
                "verdict": verdict,
                # The records rise: the last is the best.
                "score": max(at, 0),
                "rank": len(turns) - at if at >= 0 else 1,
                "siblings": len(turns) if at >= 0 else 1,
                "start": written,
                "end": written + len(text),
            }
        )
        written += len(text) + len(markers.of(verdict))
    return {
        "text": conversation.text(markers),
        "conversation_id": place.conversation_id,
        "walk": 0,
        "turns": told,
    }


def write_second_round(
    kind: str,
    model: Path,
    dataset: Path,
    judge: Path,
    made: Mapping[str, Any],
    settings: EvaluationSettings,
    seed: int,
    out: Path,
) -> None:
    """Write the dataset of the second round into the folder `out`; its validation split is that of `dataset`.

    `kind` is own or people, `made` are the settings of the dataset; `settings` say how long contexts and replies are.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    markers = FORMATS[made["format"]]
    chosen = places(dataset, seed, CONTEXTS, markers)
    # Both arms leave out the same places, so that the draws are needed for either.
    own = own_turns(model, chosen, Judge.read(judge), made["speakers"], settings, seed)
    turns = own if kind == "own" else [place.turns for place in chosen]
    rows = [row(place, here, markers) for place, here, drawn in zip(chosen, turns, own, strict=True) if drawn]
    if not rows:
        raise PipelineError(
            "The judge can read none of the model's own replies, so that there is no second round: train the first for"
            " longer (`max_steps`), or leave out the variants `second-own` and `second-people`."
        )
    (out / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), out / "data" / "train-00000-of-00001.parquet", compression="zstd")
    for file in sorted((dataset / "data").glob("validation-*.parquet")):
        (out / "data" / file.name).hardlink_to(file.resolve())
