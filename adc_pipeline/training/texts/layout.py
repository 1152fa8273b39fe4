"""The one layout of background, turns and markers as token ids, for training, scoring and generation.

    prefix + background + <background>, then for each turn text + marker (or marker + text), then end of text

`lay_out` is the only code that knows this order. Three copies of it drift apart without an error: a model is then
scored, or asked to write, on texts that it never saw in training. `fit` shortens a context that is too long, in the
same way for scoring and generation. `encode_walks` lays out the rows of a dataset.

The background and each turn are cut out of a walk by the record's offsets and tokenized by themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np

from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.tokens import Label, MarkerTokenizer
from adc_pipeline.walks.markers import Markers, Verdict

Ids = list[int]
# The ids of a turn's text, and its verdict or label; None where a line break replaces the marker.
Turn = tuple[Ids, Label | Verdict | None]

# Walks tokenized in one call: enough for the tokenizer's threads, little enough to hold.
BATCH = 512


def lay_out(
    tokenizer: MarkerTokenizer,
    background: Ids,
    turns: Iterable[Turn],
    unfinished: Turn | None = None,
    markers_first: bool = False,
) -> list[Ids]:
    """Return the pieces of a text: background with its marker, then text and marker of each turn, then the end.

    With `markers_first` a turn's marker stands before its text. `unfinished` is a turn that scoring or generation goes
    on from: where markers come first it has its marker, where they come last it has none yet, and no end of text
    follows. Every turn gives two pieces; an unfinished turn gives one without its marker.
    """
    pieces = [[*tokenizer.prefix_ids, *background, tokenizer.background_id]]
    for text, verdict in turns:
        marker = tokenizer.marker(verdict)
        pieces += (marker, text) if markers_first else (text, marker)
    if unfinished is None:
        pieces.append(tokenizer.eos_ids)
    else:
        text, verdict = unfinished
        pieces += (tokenizer.marker(verdict), text) if markers_first else (text,)
    return pieces


def fit(tokenizer: MarkerTokenizer, background: Ids, turns: Sequence[Turn], room: int) -> tuple[Ids, Sequence[Turn]]:
    """Shorten a context to at most `room` ids, markers included; return the background and the turns that stay.

    The end of the background and the nearest turns stay. The background gets half of the room, or what the turns
    leave of it.
    """
    around = len(tokenizer.prefix_ids) + 1
    sizes = [len(text) + len(tokenizer.marker(verdict)) for text, verdict in turns]
    whole = around + len(background)
    kept = min(whole, max(room // 2, room - sum(sizes)))
    left, first = room - kept, len(turns)
    while first and sizes[first - 1] <= left:
        first -= 1
        left -= sizes[first]
    kept = min(whole, kept + left)
    return background[background_start(len(background), kept - around) :], turns[first:]


def background_start(size: int, room: int) -> int:
    """Return the first token that stays of a background of `size` tokens, where `room` tokens may: its end stays.

    The training cuts walks into pieces by this, and scoring and generation shorten contexts by it: a model would
    otherwise be asked about texts of a kind that it never saw.
    """
    return max(0, size - max(0, room))


@dataclass(frozen=True, eq=False)
class TokenizedWalk:
    """A walk: `ids` (int32, (tokens,)) and the index of the `turn` that each token belongs to (int32, (tokens,)).

    A turn's tokens are its speaker line, its text and its marker, before or after the text; -1 is the background with
    its marker and the tokenizer's prefix. The end of the text belongs to the last turn. Verdicts, scores and `groups`
    (the group of siblings that a turn belongs to, see `sibling_groups`) are those of the turns that remain; what the
    arrangement excluded is counted. `given` (bool, (tokens,)) marks the words of labels and the contexts of
    completions, which carry no loss; None if there are none.
    """

    ids: np.ndarray
    turn: np.ndarray
    verdicts: tuple[Verdict, ...]
    scores: tuple[int, ...]
    groups: tuple[int, ...]
    conversation_id: str
    turns_left_out: int = 0
    markers_dropped: int = 0
    given: np.ndarray | None = None


def encode_walks(
    tokenizer: MarkerTokenizer, walks: Iterable[Mapping[str, Any]], arranged: Arrangement | None = None
) -> Iterator[TokenizedWalk]:
    """Tokenize rows of a dataset (`text`, `turns`, `conversation_id`, `walk`), in their order, `BATCH` at a time.

    `arranged` changes the turns (default: as the walks stage wrote them). A walk of which no turn remains is yielded
    without turns.
    """
    arranged = arranged or Arrangement()
    for walk, background, texts in encode_segments(tokenizer, walks):
        yield _encode_walk(tokenizer, walk, background, texts, arranged)


def encode_segments(
    tokenizer: MarkerTokenizer, walks: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Ids, list[Ids]]]:
    """Yield each row of a dataset with the ids of its background and of its turns."""
    rows = iter(walks)
    while batch := list(islice(rows, BATCH)):
        encoded = iter(tokenizer.ids([text for walk in batch for text in segments(walk, tokenizer.markers)]))
        for walk in batch:
            background, *texts = islice(encoded, 1 + len(walk["turns"]))
            yield walk, background, texts


def _encode_walk(
    tokenizer: MarkerTokenizer, walk: Mapping[str, Any], background: Ids, texts: list[Ids], arranged: Arrangement
) -> TokenizedWalk:
    records = [
        (record, text, group, verdict)
        for record, text, group, verdict in zip(
            walk["turns"], texts, sibling_groups(walk["turns"]), arranged.verdicts(walk), strict=True
        )
        if not arranged.excludes(verdict)
    ]
    turns: list[Turn] = [(text, arranged.label(walk, record, verdict)) for record, text, _, verdict in records]
    pieces = lay_out(tokenizer, background, turns, markers_first=arranged.markers_first)
    # The background, two pieces a turn, and the end, which belongs to the last turn.
    sizes = [len(piece) for piece in pieces]
    lengths = [sizes[0], *map(sum, zip(sizes[1:-1:2], sizes[2:-1:2], strict=True))]
    lengths[-1] += sizes[-1]
    return TokenizedWalk(
        ids=np.array([*chain.from_iterable(pieces)], dtype=np.int32),
        turn=np.repeat(np.arange(-1, len(turns), dtype=np.int32), lengths),
        verdicts=tuple(verdict for *_, verdict in records),
        scores=tuple(record["score"] for record, *_ in records),
        groups=tuple(group for *_, group, _ in records),
        conversation_id=walk["conversation_id"],
        turns_left_out=len(walk["turns"]) - len(turns),
        markers_dropped=sum(label is None for _, label in turns),
        given=words_of_labels(pieces, turns) if arranged.words else None,
    )


def words_of_labels(pieces: Sequence[Ids], turns: Sequence[Turn]) -> np.ndarray:
    """Return which tokens of a text with labels before its turns are words of labels; bool, (tokens,)."""
    parts = [np.zeros(len(piece), dtype=bool) for piece in pieces]
    for part, (_, label) in zip(parts[1:-1:2], turns, strict=True):
        part[len(label.markers) if isinstance(label, Label) else len(part) :] = True
    return np.concatenate(parts)


def sibling_groups(turns: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the number of each turn's group of siblings within the walk, from 0.

    A walk continues with a sibling of a rejected turn and with a reply to an accepted one, so a group ends with its
    accepted turn. Only the verdicts of the dataset say so, not those that an arrangement shuffles.
    """
    ended = accumulate((turn["verdict"] == "accepted" for turn in turns), initial=0)
    return [group for group, _ in zip(ended, turns, strict=False)]


def segments(walk: Mapping[str, Any], markers: Markers) -> list[str]:
    """Return the background and each turn with its speaker line, without markers, by the record's offsets."""
    text = walk["text"]
    starts = [turn["start"] - (0 if turn["speaker"] is None else len(turn["speaker"]) + 1) for turn in walk["turns"]]
    background = text[: starts[0] - len(markers.background)]
    return [background, *(text[start : turn["end"]] for start, turn in zip(starts, walk["turns"], strict=True))]
