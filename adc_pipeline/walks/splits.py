"""Assign conversations to splits by a fixed hash of their ids.

The hash is MD5 of ``split:CONVERSATION``; its first eight hexadecimal digits, read as a fraction of 16**8, are compared
with the cumulative shares. A conversation is therefore in the same split in every dataset, in every rebuild, and in any
larger corpus that contains it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Shares = tuple[int, int, int]
DEFAULT_SHARES: Shares = (90, 5, 5)


def shares_setting() -> Any:
    """Return the field of the setting `shares`."""
    return setting(
        DEFAULT_SHARES,
        "Percentages of conversations in train, validation and test; they add up to 100.",
        minimum=0,
        maximum=100,
    )


def check_shares(shares: Sequence[int]) -> None:
    """Raise PipelineError unless the setting `shares` is three percentages that add up to 100."""
    if len(shares) != 3 or sum(shares) != 100:
        raise PipelineError(
            f"`shares` is {list(shares)}; use three whole percentages for train, validation and test that add up to"
            " 100."
        )


def _bounds(shares: Sequence[int]) -> tuple[str, str]:
    """Return the hexadecimal upper bounds (exclusive) of train and of validation."""
    train, validation, _ = shares
    return format(16**8 * train // 100, "09x"), format(16**8 * (train + validation) // 100, "09x")


def split_of(conversation_id: str, shares: Sequence[int] = DEFAULT_SHARES) -> Split:
    """Return the split of a conversation; `shares` are whole percentages for train, validation and test."""
    digest = hashlib.md5(f"split:{conversation_id}".encode(), usedforsecurity=False).hexdigest()
    train, validation = _bounds(shares)
    place = "0" + digest[:8]
    return "train" if place < train else "validation" if place < validation else "test"


def split_sql(conversation_id: str, shares: Sequence[int] = DEFAULT_SHARES) -> str:
    """Return `split_of` as a SQL expression over a column name."""
    train, validation = _bounds(shares)
    place = f"'0' || left(md5('split:' || {conversation_id}), 8)"
    return (
        f"(CASE WHEN {place} < '{train}' THEN 'train' WHEN {place} < '{validation}' THEN 'validation' ELSE 'test' END)"
    )
