"""Attention within the prefix trees of a row, without the pairs of tokens that do not see each other.

A mask over a whole row computes every pair and then hides most of them: tokens of other conversations, of
other branches, and all that comes later. Here the row is cut into blocks of `BLOCK` neighbouring tokens,
and a block is given the keys that one of its tokens sees: in the row's depth-first order these are the
tokens on the path to its first one, and its own. The work then grows with the row's length and not with
its square, so that rows can be long, and a long row repeats few prefixes and keeps the matrix products
busy. On the sample's queries attention is a fifth of the operators' time rather than a third.

It goes through transformers' AttentionInterface. A model whose attention does not, or that needs more than
a mask of what is seen (softcap, sink, bias, a window shorter than the context), is refused here or found by
the scorer's probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NAME = "adc_trees"

BLOCK = 96

# What a mask of who sees whom does not say.
_UNKNOWN_HERE = ("softcap", "s_aux", "position_bias")


class CannotAttendInTrees(Exception):
    """The model's attention needs more than a mask, or the blocks do not reach it."""


@dataclass(frozen=True)
class Block:
    """Neighbouring tokens `start` to `end` of a row, and what they see.

    `keys` is int64 of (keys,), places in the row; `sees` bool of (1, 1, end - start, keys).
    """

    start: int
    end: int
    keys: torch.Tensor
    sees: torch.Tensor


@dataclass(frozen=True)
class Blocks:
    """A row's blocks in its order, none of whose tokens is further than `longest` from one that it sees."""

    blocks: Sequence[Block]
    longest: int

    @classmethod
    def of(cls, reach: NDArray[np.int64], longest: int, device: torch.device) -> "Blocks":
        """`reach` is (tokens,): token j is seen by the tokens from j up to, and without, `reach[j]`."""
        made = []
        places = np.arange(len(reach))
        for start in range(0, len(reach), BLOCK):
            end = min(start + BLOCK, len(reach))
            keys = np.concatenate([np.flatnonzero(reach[:start] > start), places[start:end]])
            inside = places[start:end, None]
            sees = torch.from_numpy((keys <= inside) & (inside < reach[keys]))
            made.append(Block(start, end, torch.from_numpy(keys).to(device), sees[None, None].to(device)))
        return cls(made, longest)


def attend_in_trees(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    trees: Blocks | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each token to what it sees in its row's trees.

    `query` is (1, heads, tokens, width), `key` and `value` likewise with as many or fewer heads; the
    result is (1, tokens, heads, width). This is the signature of transformers' AttentionInterface.
    """
    too_short = sliding_window is not None and trees is not None and sliding_window < trees.longest
    if trees is None or too_short or any(options.get(name) is not None for name in _UNKNOWN_HERE):
        raise CannotAttendInTrees
    from transformers import AttentionInterface

    attention = AttentionInterface()["sdpa"]
    found = [
        attention(
            module,
            query[:, :, block.start : block.end],
            key[:, :, block.keys],
            value[:, :, block.keys],
            block.sees,
            scaling=scaling,
        )[0]
        for block in trees.blocks
    ]
    return torch.cat(found, dim=1), None
