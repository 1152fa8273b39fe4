"""Coins: the only randomness of the walks, as a pure function.

The digest of a coin is the hexadecimal MD5 of the UTF-8 text ``SEED:KIND:WALK:UTTERANCE`` (for example
``0:top-2:0:abc``). The coin comes up if its digest, compared as a string, is smaller than the kind's threshold; what it
decides is declared with the kind (`kinds.py`). Ascending sorts replies by the digests themselves. A random number
generator would tie the walks to one library's version and to the order of the calls. MD5 never changes and is available
in every language and database, so a walk is the same wherever it is drawn. It protects no secret.
"""

import hashlib

from adc_pipeline.walks.kinds import KINDS, WalkKind


def coin(seed: int, kind: str, walk: int, utterance_id: str) -> bool:
    """Return whether the coin comes up, for example to reject a sibling in random-walk."""
    return digest(seed, kind, walk, utterance_id) < KINDS[kind].threshold


def digest(seed: int, kind: str, walk: int, utterance_id: str) -> str:
    """Return the digest that a coin compares with its kind's threshold: 32 hexadecimal digits."""
    text = f"{seed}:{kind}:{walk}:{utterance_id}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def coin_sql(kind: WalkKind, walk: str, utterance_id: str) -> str:
    """Return `coin` as a SQL expression over two column names; the seed is the connection's variable ``seed``."""
    return f"({digest_sql(kind, walk, utterance_id)} < '{kind.threshold}')"


def digest_sql(kind: WalkKind, walk: str, utterance_id: str) -> str:
    """Return `digest` as a SQL expression over two column names; the seed is the connection's variable ``seed``."""
    return f"md5(concat_ws(':', getvariable('seed'), '{kind.name}', {walk}, {utterance_id}))"
