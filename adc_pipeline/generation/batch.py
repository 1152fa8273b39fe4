"""Draw turns for many prompts at once, from random numbers of each prompt's own.

A token is the inverse of the cumulative distribution at a uniform number that the caller gives for the prompt and the
place. What is drawn for a prompt therefore depends neither on the other prompts of the batch nor on their order, as it
would with one generator for all of them. (float32 sums differ in their last digits between batch sizes, which moves a
token once in some hundred thousand.)

Where the same sequences go on (a reply is rejected, the next one is drawn), `Batch` keeps their keys and values: of
the next prompt only the tokens behind the prefix that it shares with what was read before are computed. Prompts are
compared by their ids, so that a prompt that was shortened, or tokenized in another way, is read again from where it
differs. A probe finds the models that do not support this, such as state-space models and sliding windows; they read
every prompt from its start (`continuations`).
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, LogitsProcessor
from transformers.cache_utils import Cache, DynamicLayer

from adc_pipeline.generation.decoding import Finite, Restarts, continuations, only, probed_length, runs_in_batches
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.architectures.context import stated
from adc_pipeline.training.architectures.probes import Logits, Texts, logits, runs_as_alone

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

# Bytes of keys and values that one batch holds at most, and rows of a batch.
CACHE_BYTES = 1 << 29
MOST_ROWS = 256
# Tokens for which the buffers of a cache have room when they are made.
ROOM = 64
# A batch whose sequences do not go on drops finished rows when so many of its rows are finished.
DROPPED_SHARE = 0.25
# Tokens in the three parts of each of the probe's texts; the first part of the first is as long as the run's texts.
PROBE = ((9, 9, 6), (4, 3, 6))


def chosen(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the drawn id of each row: (rows,) from (rows, vocabulary) and uniform numbers below 1, (rows,)."""
    sampling = Sampling(temperature)
    if not sampling.options()["do_sample"]:
        return logits.argmax(-1)
    sums = (logits.double() / temperature).softmax(-1).cumsum(-1)
    # The first id whose sum exceeds the number, which has a probability above 0.
    found = torch.searchsorted(sums, uniforms[:, None] * sums[:, -1:], right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1)


class RoomyLayer(DynamicLayer):
    """The keys and values of a layer, in buffers with room for more tokens.

    `DynamicLayer` copies all of them for each token, which takes most of the time of a small model's replies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.keys, self.values
        if keys is None or values is None or not keys.numel():
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        known = keys.shape[2]
        needed = known + key_states.shape[2]
        buffers = self.buffers
        # Rows or columns that were selected lie elsewhere than in the buffers.
        if (
            buffers is None
            or buffers[0].shape[2] < needed
            or (buffers[0].data_ptr(), buffers[1].data_ptr()) != (keys.data_ptr(), values.data_ptr())
        ):
            buffers = with_room(keys, needed), with_room(values, needed)
        buffers[0][:, :, known:needed] = key_states
        buffers[1][:, :, known:needed] = value_states
        self.buffers = buffers
        self.keys, self.values = buffers[0][:, :, :needed], buffers[1][:, :, :needed]
        return self.keys, self.values


def with_room(states: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return a buffer that begins with `states`, (rows, heads, known tokens, size), and has room for `tokens` and more.

    What is behind the states is not initialized.
    """
    rows, heads, known, size = states.shape
    buffer = states.new_empty(rows, heads, tokens + ROOM, size)
    buffer[:, :, :known] = states
    return buffer


class Batch:
    """Sequences side by side, with the keys and values of what was read of them."""

    def __init__(self, model: "PreTrainedModel", stops: Sequence[int], sampling: Sampling, grows: bool = True) -> None:
        self.model = model
        self.stops = list(stops)
        self.sampling = sampling
        self.grows = grows
        self.read: list[list[int]] = []  # the ids of each row whose keys and values are kept
        self.cache: Any = None
        self.finite = Finite()
        self.mask = torch.zeros(0, 0, dtype=torch.long)  # (rows, columns): 1 for a token, 0 for padding

    def draw(self, prompts: Sequence[list[int]], uniforms: Floats, last: bool = False) -> list[list[int]]:
        """Return the new ids after each prompt, at least one, up to and including the first stop.

        `uniforms` is (prompts, `max_new_tokens`). The nth prompt goes on from what the last call read for its nth one.
        After the `last` call nothing is kept.
        """
        if not self.grows:
            greedy, temperature = Sampling(0.0, 1.0, self.sampling.max_new_tokens), self.sampling.temperature
            longest = max(map(len, prompts)) + self.sampling.max_new_tokens
            size = len(prompts) if runs_in_batches(self.model, longest) else 1
            return [
                ids
                for begin in range(0, len(prompts), size)
                for ids in continuations(
                    self.model,
                    list(prompts[begin : begin + size]),
                    self.stops,
                    greedy,
                    [ByUniforms(uniforms[begin : begin + size], temperature)],
                )
            ]
        with torch.inference_mode():
            return self._draw(prompts, torch.from_numpy(uniforms).to(self.model.device), last)

    def _draw(self, prompts: Sequence[list[int]], uniforms: torch.Tensor, last: bool) -> list[list[int]]:
        read = self.read or [[] for _ in prompts]
        kept = [shared_prefix(before, prompt[:-1]) for before, prompt in zip(read, prompts, strict=True)]
        self._keep(kept)
        logits = self._forward([prompt[count:] for prompt, count in zip(prompts, kept, strict=True)])
        written: list[list[int]] = [[] for _ in prompts]
        rows = torch.arange(len(prompts), device=self.model.device)  # the prompt of each row of the cache
        running = torch.ones_like(rows, dtype=torch.bool)
        stops = torch.tensor(self.stops, device=self.model.device)
        for step in range(self.sampling.max_new_tokens):
            ids = chosen(
                without(logits, stops) if step == 0 else logits, uniforms[rows, step], self.sampling.temperature
            )
            for row, id, more in zip(rows.tolist(), ids.tolist(), running.tolist(), strict=True):
                if more:
                    written[row].append(id)
            running = running & ~torch.isin(ids, stops)
            if step + 1 == self.sampling.max_new_tokens or not running.any():
                break
            if last and running.float().mean() <= 1 - DROPPED_SHARE:
                rows, ids, self.mask = rows[running], ids[running], self.mask[running]
                self.cache.batch_select_indices(running.nonzero()[:, 0])
                running = running[running]
            logits = self._next(ids, running)
        # Nobody read the last id of a row.
        self.read = [prompt + ids[:-1] for prompt, ids in zip(prompts, written, strict=True)]
        if last:
            self.read, self.cache = [], None
        return written

    def _keep(self, kept: list[int]) -> None:
        """Keep the first ids of each row, and move them to the right, so that padding is on the left."""
        columns = max(kept)
        if not columns:
            self.cache = Cache(layer_class_to_replicate=RoomyLayer)
            self.mask = torch.zeros(len(kept), 0, dtype=torch.long, device=self.model.device)
            return
        counts = torch.tensor(kept, device=self.model.device)
        self.mask = self.mask * (self.mask.cumsum(-1) <= counts[:, None])
        order = self.mask.argsort(dim=-1, stable=True)[:, -columns:]
        self.mask = self.mask.gather(1, order)
        for layer in self.cache.layers:
            heads, size = layer.keys.shape[1], layer.keys.shape[3]
            layer.keys = layer.keys.gather(2, order[:, None, :, None].expand(-1, heads, -1, size))
            heads, size = layer.values.shape[1], layer.values.shape[3]
            layer.values = layer.values.gather(2, order[:, None, :, None].expand(-1, heads, -1, size))

    def _forward(self, ids: Sequence[list[int]]) -> torch.Tensor:
        """Read more ids of each row, padded on the left; return the logits after them, (rows, vocabulary)."""
        width = max(map(len, ids))
        padded = torch.tensor([[self.stops[0]] * (width - len(row)) + row for row in ids], device=self.model.device)
        more = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=self.model.device)
        return self._read(padded, more)

    def _next(self, ids: torch.Tensor, running: torch.Tensor) -> torch.Tensor:
        """Read one id of each row, which is padding where the row is finished."""
        return self._read(ids[:, None], running[:, None].long())

    def _read(self, ids: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        self.mask = torch.cat([self.mask, more], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        known = inspect.signature(self.model.forward).parameters
        # Newer versions of transformers rename `past_key_values`, model by model.
        options: dict[str, Any] = {"cache" if "cache" in known else "past_key_values": self.cache, "use_cache": True}
        if "logits_to_keep" in known:
            options["logits_to_keep"] = 1
        # The auxiliary loss of a mixture of experts fails on the masks of a batch.
        if hasattr(self.model.config, "output_router_logits"):
            options["output_router_logits"] = False
        found: torch.Tensor = self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=positions, **options
        ).logits[:, -1]
        return self.finite(ids, found)


def without(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return logits that exclude `ids`."""
    return logits.index_fill(-1, ids, float("-inf"))


def shared_prefix(one: list[int], other: list[int]) -> int:
    """Return how many leading ids two lists share."""
    count = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        count += 1
    return count


class ByUniforms(Restarts, LogitsProcessor):
    """Leaves of each row's ids only the one that its uniform number draws."""

    def __init__(self, uniforms: Floats, temperature: float) -> None:
        self.uniforms = torch.from_numpy(uniforms)
        self.temperature = temperature
        self.restart()

    def restart(self) -> None:
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids = chosen(scores, self.uniforms[:, self.step].to(scores.device), self.temperature)
        self.step += 1
        return only(scores, ids[:, None])


def rows_at_once(model: "PreTrainedModel", tokens: int) -> int:
    """Return how many sequences of `tokens` a batch may hold."""
    heads = stated(model, "num_attention_heads") or 1
    size = stated(model, "head_dim") or (stated(model, "hidden_size") or 1) // heads
    kept = 2 * (stated(model, "num_hidden_layers") or 1) * (stated(model, "num_key_value_heads") or heads) * size
    return max(1, min(MOST_ROWS, CACHE_BYTES // max(1, kept * model.dtype.itemsize * tokens)))


def grows(model: "PreTrainedModel", longest: int) -> bool:
    """Return whether texts that are read in three parts, side by side, get the logits that each gets alone.

    `longest` is the most tokens of a text. Windows are wider than a probe, so they are taken from the configuration.
    """
    if not all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    (_, *others), short = PROBE
    sizes = ((max(PROBE[0][0], probed_length(model, longest) - sum(others)), *others), short)

    def together(texts: Texts) -> Logits:
        batch = Batch(model, [0], Sampling())
        parts = [text.split(list(each)) for text, each in zip(texts, sizes, strict=True)]
        batch._keep([0] * len(texts))
        batch._forward([first.tolist() for first, _, _ in parts])
        # Keep less than was read, so that both the mask and the places are tried.
        batch._keep([len(first) - 1 for first, _, _ in parts])
        read = batch._forward([[*first[-1:].tolist(), *second.tolist()] for first, second, _ in parts])
        found = [[row] for row in read]
        for step in range(max(len(third) for _, _, third in parts)):
            running = torch.tensor([step < len(third) for _, _, third in parts], device=model.device)
            ids = torch.stack([third[min(step, len(third) - 1)] for _, _, third in parts])
            for row, after in enumerate(batch._next(ids, running)):
                if running[row]:
                    found[row].append(after)
        alone = [logits(model, text) for text in texts]
        return [torch.cat([each[: -len(after)], torch.stack(after)]) for each, after in zip(alone, found, strict=True)]

    return runs_as_alone(model, list(map(sum, sizes)), together)
