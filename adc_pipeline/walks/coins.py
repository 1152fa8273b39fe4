"""Coins: the only randomness of the walks, as a pure function.

A coin is MD5, written in hexadecimal, of the UTF-8 text ``SEED:KIND:WALK:UTTERANCE`` (for example
``0:top-2:0:abc``), compared as a string with a threshold: it comes up if the digest is smaller. MD5 and
its hexadecimal form are fixed for good and are at hand in every language and engine, so that a walk is
the same wherever it is drawn. No secret depends on it.

- random-walk: the coin of a *sibling* comes up with probability 1/2 and rejects it.
- top-2: the coin of an *utterance with two or more replies* comes up with probability 2/3 and shows its
  second-best reply before its best.
"""

import hashlib
from typing import Literal

WalkKind = Literal["top-2", "random-walk"]

# The smallest digest at which the coin no longer comes up: 16**32 / 2 and 16**32 * 2/3, rounded down.
THRESHOLDS: dict[WalkKind, str] = {"random-walk": "8" + "0" * 31, "top-2": "a" * 32}


def coin(seed: int, kind: WalkKind, walk: int, utterance_id: str) -> bool:
    """Whether the coin comes up: reject this sibling (random-walk), show the second-best (top-2)."""
    text = f"{seed}:{kind}:{walk}:{utterance_id}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() < THRESHOLDS[kind]


def coin_sql(kind: WalkKind, walk: str, utterance_id: str) -> str:
    """The same as a SQL expression over two column names; the seed is the variable ``seed``."""
    text = f"concat_ws(':', getvariable('seed'), '{kind}', {walk}, {utterance_id})"
    return f"(md5({text}) < '{THRESHOLDS[kind]}')"
