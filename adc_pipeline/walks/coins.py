"""Coins: the only randomness of the walks, as a pure function.

A coin is MD5, written in hexadecimal, of the UTF-8 text ``SEED:KIND:WALK:UTTERANCE`` (for example ``0:top-2:0:abc``),
compared as a string with the threshold of the kind: it comes up if the digest is smaller. MD5 is specified for good and
available in every language and engine, so that a walk is the same wherever it is drawn. No secret depends on it.

- random-walk: the coin of a *sibling* comes up with probability 1/2 and rejects it.
- top-2: the coin of an *utterance with two or more replies* comes up with probability 2/3 and shows its second-best
  reply before its best.
"""

import hashlib

from adc_pipeline.walks.kinds import KINDS, WalkKind


def coin(seed: int, kind: str, walk: int, utterance_id: str) -> bool:
    """Return whether the coin comes up: reject this sibling (random-walk), show the second-best (top-2)."""
    return digest(seed, kind, walk, utterance_id) < KINDS[kind].threshold


def digest(seed: int, kind: str, walk: int, utterance_id: str) -> str:
    """Return the hash that a coin compares with its threshold."""
    text = f"{seed}:{kind}:{walk}:{utterance_id}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def coin_sql(kind: WalkKind, walk: str, utterance_id: str) -> str:
    """Return `coin` as a SQL expression over two column names; the seed is the variable ``seed``."""
    return f"({digest_sql(kind, walk, utterance_id)} < '{kind.threshold}')"


def digest_sql(kind: WalkKind, walk: str, utterance_id: str) -> str:
    """Return `digest` as a SQL expression over two column names."""
    return f"md5(concat_ws(':', getvariable('seed'), '{kind.name}', {walk}, {utterance_id}))"
