"""Keep the walks of a step apart: attention over several walks in one row, without padding.

Transformers' own way is a row with a mask: it computes all pairs of tokens in the row and then hides those of different
walks. The kernel here attends to each walk by itself: the work is the sum of squared walk lengths, and rows need
neither padding nor equal length. On a CPU a whole step of the small model takes 18 % less time on the sample's walks
than rows of 512 with a mask do. There each walk is a call of its own; on a GPU, where many small kernels would be
slower, one kernel for variable lengths computes all of them (`torch.nn.attention.varlen`, FlashAttention's, Dao 2023).

`probes.choose_separation` decides which way a model is trained in: by the kernel where that gives each walk what it
gets alone, else by the positions, from which transformers derives a mask, else with a forward pass for each walk.
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal, Self

import torch

Separation = Literal["kernel", "positions", "passes"]

NAME = "adc_apart"

# Options that need more than a plain causal mask.
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class Spans:
    """Sequences that follow one another in one row.

    `longest` is no less than any length, and the same for every batch.
    """

    lengths: list[int]
    starts: torch.Tensor  # int32 (sequences + 1,), where each starts and the last ends
    longest: int

    @classmethod
    def of(cls, lengths: list[int], longest: int) -> Self:
        return cls(lengths, torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), longest)

    def to(self, device: torch.device) -> Self:
        return replace(self, starts=self.starts.to(device, non_blocking=True))


class UnsupportedAttention(Exception):
    """The model's attention needs more than the kernel computes, or does not pass the sequences' lengths on."""


def attend_apart(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, width)
    key: torch.Tensor,  # (1, as many heads or fewer, tokens, width)
    value: torch.Tensor,  # like `key`
    attention_mask: torch.Tensor | None,
    walks: Spans | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each of the `walks` of a row; returns (1, tokens, heads, width).

    The signature is that of transformers' AttentionInterface.
    """
    if walks is None or any(options.get(name) is not None for name in _UNSUPPORTED):
        raise UnsupportedAttention
    if query.device.type == "cuda":
        if dropout:
            raise UnsupportedAttention
        return in_one_kernel(query, key, value, walks, scaling), None
    from transformers import AttentionInterface

    attention = AttentionInterface()["sdpa"]
    each = zip(*(part.split(walks.lengths, dim=2) for part in (query, key, value)), strict=True)
    options |= {"scaling": scaling, "dropout": dropout}
    return torch.cat([attention(module, *walk, None, **options)[0] for walk in each], dim=1), None


def in_one_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, walks: Spans, scaling: float | None
) -> torch.Tensor:
    """Compute `attend_apart` on a GPU in half precision, by FlashAttention over variable lengths."""
    from torch.nn.attention.varlen import varlen_attn

    # (1, heads, tokens, width) -> (tokens, heads, width)
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    # Not every release knows the argument; with one that does not, only models that do not need it use the kernel.
    shared: dict[str, Any] = {"enable_gqa": True} if key.shape[1] != query.shape[1] else {}
    found: Any = varlen_attn(
        queries,
        keys,
        values,
        walks.starts,
        walks.starts,
        walks.longest,
        walks.longest,
        scale=scaling,
        window_size=(-1, 0),
        **shared,
    )
    return torch.unsqueeze(found, 0)
