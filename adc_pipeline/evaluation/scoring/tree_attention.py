"""Attention within the prefix trees of a row, without the pairs of tokens that do not see each other.

A mask over a whole row computes every pair and then hides most of them: tokens of other conversations, of other
branches, and all later ones. Here the row is cut into blocks of `BLOCK` neighbouring tokens, and a block gets the keys
that one of its tokens sees: in the row's depth-first order these are the tokens on the path to its first token, and its
own. The work grows with the row's length instead of its square. Rows can therefore be long, and a long row repeats few
prefixes and keeps the matrix products busy. On the sample's queries attention takes a fifth of the operators' time
instead of a third.

It uses transformers' AttentionInterface. A model whose attention does not, or that needs more than a mask (softcap,
sink, bias, a window shorter than the context), raises `UnsupportedAttention` or fails the scorer's probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adc_pipeline.training.architectures.attention import UnsupportedAttention

NAME = "adc_trees"

BLOCK = 96

# Options that need more than a mask.
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class Block:
    """Neighbouring tokens `start` to `end` of a row, and the tokens that they see."""

    start: int
    end: int
    keys: torch.Tensor  # int64 (keys,), places in the row
    sees: torch.Tensor  # bool (1, 1, end - start, keys)


@dataclass(frozen=True)
class Blocks:
    """The blocks of a row in order; no token sees another that is more than `longest` tokens before it."""

    blocks: Sequence[Block]
    longest: int

    @classmethod
    def of(cls, reach: NDArray[np.int64], longest: int, device: torch.device) -> "Blocks":
        """Cut a row into blocks; `reach` is (tokens,): the tokens j to `reach[j]` (exclusive) see token j."""
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
    query: torch.Tensor,  # (1, heads, tokens, width)
    key: torch.Tensor,  # (1, as many heads or fewer, tokens, width)
    value: torch.Tensor,  # like `key`
    attention_mask: torch.Tensor | None,
    trees: Blocks | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of each token to those that it sees in its row's trees; returns (1, tokens, heads, width).

    The signature is that of transformers' AttentionInterface.
    """
    too_short = sliding_window is not None and trees is not None and sliding_window < trees.longest
    if trees is None or too_short or any(options.get(name) is not None for name in _UNSUPPORTED):
        raise UnsupportedAttention
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
