"""Hold the cases of an evaluation as arrays, one class a kind of case.

A case refers to its queries by number, and names the utterances that it is about, so that two evaluations of one
dataset are compared case by case.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adc_pipeline.evaluation.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Pairs:
    """Pairs of siblings, the better one with the higher score; arrays of (pairs,)."""

    conversation: Ints  # number of the conversation
    case: NDArray[np.str_]  # BETTER>WORSE, utterance ids
    better: Ints  # query: the better reply after its accepted ancestors
    worse: Ints
    better_bytes: Ints  # UTF-8 length of the reply's text
    worse_bytes: Ints
    gap: Ints  # difference of the scores
    within_hour: Bools  # written at most an hour apart
    later_doubled: Bools  # the better reply is later and has twice the score or more, both scores at least 2
    dialogrpt: Bools  # within an hour, neighbours in time, a score gap of at least 20 and a rank gap of at least 0.5
    time_matched: Bools  # within an hour, with as many better replies that are earlier as ones that are later
    speaker_free: Bools  # the speakers' mean scores in training are the same, mostly since neither wrote there
    better_time: Ints
    worse_time: Ints
    better_speaker: Floats  # mean score of the reply's speaker in training, or of everybody for one who is not there
    worse_speaker: Floats


@dataclass(frozen=True)
class Steerings:
    """Turns X with a sibling s and a reply r; arrays of (turns,)."""

    conversation: Ints
    case: NDArray[np.str_]  # utterance id of X
    sibling_if_rejected: Ints  # query: s after X rejected
    sibling_if_accepted: Ints
    reply_if_rejected: Ints
    reply_if_accepted: Ints
    sibling_bytes: Ints  # UTF-8 length of s's text
    reply_bytes: Ints


@dataclass(frozen=True)
class Turns:
    """The turns of the walks; arrays of (turns,)."""

    conversation: Ints
    case: NDArray[np.str_]  # WALK/utterance id
    turn: Ints  # query: the turn after everything before it in the walk
    bytes: Ints  # UTF-8 length of the turn's segment
    accepted: Bools
    before: Ints  # the verdict before the turn: one of `BEFORE`


@dataclass(frozen=True)
class Improvements:
    """Accepted turns with k rejected siblings before them, of which the first `shown` are shown; arrays of (rows,).

    A turn has a row for each number shown from 1 to `MOST_SHOWN`, and one for all k; all of its rows are used, or none.
    """

    conversation: Ints
    case: NDArray[np.str_]  # WALK/utterance id, or WALK/utterance id/SHOWN where not all are shown
    left_in: Ints  # query: the turn with the first `shown` rejected siblings in its context
    taken_out: Ints  # query: the turn without any
    every: Ints  # query: the turn with all k
    strange: Ints  # query: the turn with replies of other conversations in place of all k; -1 if there are none
    bytes: Ints  # UTF-8 length of the turn's segment
    k: Ints
    shown: Ints


@dataclass(frozen=True)
class Contrasts:
    """Three siblings, the one in the middle shown as rejected; arrays of (groups,)."""

    conversation: Ints
    case: NDArray[np.str_]  # SHOWN:BETTER>WORSE, utterance ids
    better: Ints  # query: the better sibling after its accepted ancestors
    worse: Ints
    better_after_own: Ints  # query: the better sibling after the shown one, rejected
    worse_after_own: Ints
    better_after_stranger: Ints  # query: the better sibling after a reply of another conversation, rejected
    worse_after_stranger: Ints
    better_bytes: Ints  # UTF-8 length of the sibling's segment
    worse_bytes: Ints


# The verdict before a turn: none before the first one.
BEFORE = {None: 0, "rejected": 1, "accepted": 2}
# The most rejected siblings shown in a row that does not show all.
MOST_SHOWN = 3

CaseSet = TypeVar("CaseSet", Pairs, Steerings, Turns, Improvements, Contrasts)
QUERY_FIELDS = {
    Pairs: ("better", "worse"),
    Steerings: ("sibling_if_rejected", "sibling_if_accepted", "reply_if_rejected", "reply_if_accepted"),
    Turns: ("turn",),
    Improvements: ("left_in", "taken_out", "every", "strange"),
    Contrasts: (
        "better",
        "worse",
        "better_after_own",
        "worse_after_own",
        "better_after_stranger",
        "worse_after_stranger",
    ),
}


def keep(cases: CaseSet, wanted: Bools) -> CaseSet:
    """Return the cases for which `wanted` is true."""
    return dataclasses.replace(cases, **{f.name: getattr(cases, f.name)[wanted] for f in dataclasses.fields(cases)})


def answered(cases: CaseSet, fits: Bools) -> CaseSet:
    """Return the cases all of whose queries fit; -1 is no query."""
    queries = [getattr(cases, name) for name in QUERY_FIELDS[type(cases)]]
    return keep(cases, np.all([fits[each] | (each < 0) for each in queries], axis=0))


BOOLEANS = ("accepted", "within_hour", "later_doubled", "dialogrpt", "time_matched", "speaker_free")


def table(kind: type[CaseSet], rows: Iterator[tuple[Any, ...]]) -> CaseSet:
    """Return rows as the columns of a case set, also if there are none.

    Within a conversation, the names of its cases differ: an answer and a comment may have one id, so what is named like
    an earlier case gets a number.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(dataclasses.fields(kind))
    columns[1] = distinct(columns[0], columns[1])
    types: dict[str, Any] = {"case": np.str_, "better_speaker": np.float64, "worse_speaker": np.float64}
    types |= dict.fromkeys(BOOLEANS, np.bool_)
    names = [f.name for f in dataclasses.fields(kind)]
    arrays: dict[str, Any] = {
        name: np.array(column, dtype=types.get(name, np.int64)) for name, column in zip(names, columns, strict=True)
    }
    return kind(**arrays)


def distinct(conversations: Sequence[int], cases: Sequence[str]) -> tuple[str, ...]:
    """Return the names of cases; the second of a name in a conversation as NAME#2, and so on."""
    seen: Counter[tuple[int, str]] = Counter()
    names = []
    for key in zip(conversations, cases, strict=True):
        seen[key] += 1
        names.append(key[1] if seen[key] == 1 else f"{key[1]}#{seen[key]}")
    return tuple(names)
