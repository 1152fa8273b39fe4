"""Texts for preference optimization: single turns as completions of a context, in units of two.

A walk shows several siblings of one place. Of them the objectives learn as the literature has it, without rejected
turns in the context: the context is the background and the accepted turns before that place, and the completion one of
the siblings, up to its marker. All markers are the same one.

- `dpo`: a unit is a pair, the accepted sibling and one that the walk rejects in its place.
- `kto`: a unit is one turn with its verdict, and the same context with a turn of another conversation, by which the
  divergence from the reference is estimated. The walk before gives that turn, so the first walk has no unit.

Both texts of a unit have the same context, which is shortened as in scoring where the longer completion does not fit
behind it. A unit whose completion leaves less than `LEAST` tokens for the context is excluded and counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from adc_pipeline.training.texts.arrangement import NEUTRAL, Arrangement
from adc_pipeline.training.texts.layout import Ids, TokenizedWalk, Turn, encode_segments, fit, lay_out, sibling_groups
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import Verdict

# The fewest tokens of a context.
LEAST = 8


def encode_completions(
    tokenizer: MarkerTokenizer, walks: Iterable[Mapping[str, Any]], arranged: Arrangement
) -> Iterator[TokenizedWalk]:
    """Yield the completions of walks, those of a unit one after the other; excluded units are counted with a walk's
    last text, or with one without turns.
    """
    others: list[Ids] = []
    own: list[Ids] = []
    previous = ""
    for walk, background, texts in encode_segments(tokenizer, walks):
        if walk["conversation_id"] != previous:
            others, previous = own, walk["conversation_id"]
        own = texts
        encoder = Encoder(tokenizer, arranged.room, walk, background)
        for place in places(walk, texts):
            if arranged.completions == "dpo":
                *rejected, (accepted, _) = place.turns
                for number, _ in rejected if place.accepted else ():
                    encoder.unit(place.path, (accepted, texts[accepted]), (number, texts[number]))
            else:
                for number, text in place.turns if others else ():
                    encoder.unit(place.path, (number, text), (None, others[number % len(others)]))
        yield from encoder.found
        if encoder.excluded:
            yield encoder.nothing()


class Place(NamedTuple):
    """A place of a walk: the accepted turns above, the siblings (number and ids), and whether the last is accepted."""

    path: list[Ids]
    turns: list[tuple[int, Ids]]
    accepted: bool


def places(walk: Mapping[str, Any], texts: Sequence[Ids]) -> Iterator[Place]:
    """Yield the places of a walk, from the top."""
    path: list[Ids] = []
    numbered = zip(sibling_groups(walk["turns"]), enumerate(texts), strict=True)
    for _, group in groupby(numbered, key=itemgetter(0)):
        turns = [turn for _, turn in group]
        accepted = walk["turns"][turns[-1][0]]["verdict"] == "accepted"
        yield Place(list(path), turns, accepted)
        path.append(turns[-1][1])


class Encoder:
    """Encodes the units of one walk."""

    def __init__(self, tokenizer: MarkerTokenizer, room: int, walk: Mapping[str, Any], background: Ids) -> None:
        self.tokenizer, self.room, self.walk, self.background = tokenizer, room, walk, background
        self.found: list[TokenizedWalk] = []
        self.excluded = 0

    def unit(self, path: Sequence[Ids], *completions: tuple[int | None, Ids]) -> None:
        """Add the texts of completions, each with the number of its turn; a turn from elsewhere has none."""
        room = self.room - 1 - max(len(ids) for _, ids in completions)
        if room < LEAST:
            self.excluded += 1
            return
        turns: list[Turn] = [(ids, NEUTRAL) for ids in path]
        background, near = fit(self.tokenizer, self.background, turns, room)
        self.found += [self.completion(background, near, *completion) for completion in completions]

    def completion(self, background: Ids, near: Sequence[Turn], number: int | None, ids: Ids) -> TokenizedWalk:
        # Without the end of the text: a conversation may go on.
        first, *pieces = lay_out(self.tokenizer, background, [*near, (ids, NEUTRAL)])[:-1]
        sizes = [len(first), *(len(text) + len(marker) for text, marker in zip(pieces[::2], pieces[1::2], strict=True))]
        accepted: Verdict = "accepted"
        # A turn from elsewhere counts like those of the context, so that no rejected turn is counted twice.
        record: Mapping[str, Any] = {"verdict": accepted, "score": 0} if number is None else self.walk["turns"][number]
        turn = np.repeat(np.arange(-1, len(near) + 1, dtype=np.int32), sizes)
        return TokenizedWalk(
            ids=np.array([*first, *chain.from_iterable(pieces)], dtype=np.int32),
            turn=turn,
            verdicts=(*[accepted] * len(near), record["verdict"]),
            scores=(*[0] * len(near), record["score"]),
            groups=tuple(range(len(near) + 1)),
            conversation_id=self.walk["conversation_id"],
            given=turn < len(near),
        )

    def nothing(self) -> TokenizedWalk:
        """Return a text without turns, which counts what was excluded."""
        empty = np.empty(0, dtype=np.int32)
        return TokenizedWalk(empty, empty, (), (), (), self.walk["conversation_id"], turns_left_out=self.excluded)
