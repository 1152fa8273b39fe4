"""Draw tokens from a model: where a turn ends, which tokens are excluded, and the text while it is written.

The evaluation's samples and the replies for people are drawn by the same function. Only replies are constrained by the
grammar; samples show whether a model follows it by itself. A reply of the small model takes 2 to 3 ms a token on one
core, grammar and text included.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.generation.conversation import neutral
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.architectures.context import context_length, stated
from adc_pipeline.training.architectures.memory import is_out_of_memory
from adc_pipeline.training.architectures.probes import FAULTS, Logits, Texts, logits, runs_as_alone
from adc_pipeline.training.texts.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Control characters could move the cursor, change a terminal's settings, or hide a marker string.
CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
# Stands for bytes that do not form a character yet.
UNFINISHED = "\ufffd"


def stop_ids(tokenizer: MarkerTokenizer) -> list[int]:
    """Return the ids that end a turn: the three markers and the end of the text."""
    return [tokenizer.accepted_id, tokenizer.rejected_id, tokenizer.background_id, *tokenizer.eos_ids]


def continuations(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    stops: list[int],
    sampling: Sampling,
    processors: Sequence[LogitsProcessor] = (),
    streamer: BaseStreamer | None = None,
) -> list[list[int]]:
    """Return the new tokens after each prompt, at least one, up to and including the first of `stops`.

    All prompts are one batch with the key-value cache, or one after the other without `processors` for a model that
    cannot run a batch. A `streamer` takes one prompt only. Draws from torch's global generator.
    """
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    if len(prompts) > 1 and not processors and not runs_in_batches(model, longest):
        return [continuations(model, [prompt], stops, sampling)[0] for prompt in prompts]
    options = {"max_new_tokens": sampling.max_new_tokens, "eos_token_id": stops, **sampling.options()}
    written = generated(model, prompts, stops[0], [Finite(), *processors], streamer, **options)[0].tolist()
    ends = [next((at for at, id in enumerate(ids, 1) if id in stops), len(ids)) for ids in written]
    return [ids[:end] for ids, end in zip(written, ends, strict=True)]


def generated(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    padding: int,
    processors: list[LogitsProcessor],
    streamer: BaseStreamer | None = None,
    **options: Any,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run transformers' `generate` over a batch, padded on the left.

    Returns the new ids, (prompts, tokens), and, if `output_logits` is among the options, the model's logits at each of
    them, (prompts, vocabulary).
    """
    # Options that are not set below would come from the base model's own, such as a repetition penalty.
    model.generation_config = GenerationConfig()
    width = max(map(len, prompts))
    # The auxiliary loss of a mixture of experts belongs to training, and fails on the masks of a batch here.
    routers = {"output_router_logits": False} if hasattr(model.config, "output_router_logits") else {}
    # Padding on the left is masked; its id does not matter.
    ids = torch.tensor([[padding] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def run(use_cache: bool) -> Any:
        for each in [*processors, streamer]:
            if isinstance(each, Restarts):
                each.restart()
        with torch.inference_mode():
            return model.generate(  # type: ignore[operator]
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                logits_processor=LogitsProcessorList(processors),
                streamer=streamer,
                generation_config=GenerationConfig(
                    min_new_tokens=1, pad_token_id=padding, return_dict_in_generate=True, use_cache=use_cache, **options
                ),
                **routers,
            )

    cache = model not in WITHOUT_CACHE and not changes_positions(model, width, width + options["max_new_tokens"])
    try:
        output = run(cache)
    except FAULTS as error:
        if not cache or is_out_of_memory(error):
            raise
        try:
            output = run(use_cache=False)
        except FAULTS as second:
            if is_out_of_memory(second):
                raise
            raise PipelineError(
                f"The model, a {type(model).__name__}, cannot write ({first_line(error)}); update transformers, or"
                " choose another base model."
            ) from error
        WITHOUT_CACHE.add(model)
    return output.sequences[:, width:], list(output.logits or ())


def changes_positions(model: "PreTrainedModel", begin: int, end: int) -> bool:
    """Return whether LongRoPE gives a text other positions once it has grown from `begin` to `end` tokens.

    It has other frequencies above a length. A cache would keep the keys of the shorter text beside those of the longer,
    which no pass over a whole text gives; transformers empties it there for Phi-3 only.
    """
    rope = stated(model, "rope_parameters") or {}
    # Of the whole model, or of each kind of layer.
    scaled = [each for each in (rope, *rope.values()) if isinstance(each, dict) and each.get("rope_type") == "longrope"]
    name = "original_max_position_embeddings"
    limits = [each.get(name) or stated(model, name) for each in scaled]
    return any(begin <= limit < end for limit in limits if limit)


# Models whose code fails with the key-value cache, and writes without.
WITHOUT_CACHE: WeakSet[Any] = WeakSet()


class Restarts:
    """Keeps what one run of `generate` has drawn so far."""

    def restart(self) -> None:
        """Forget what an earlier run has drawn."""
        raise NotImplementedError


def only(scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return scores by which each row of (rows, vocabulary) draws its id of `ids`, (rows, 1), for certain."""
    return torch.full_like(scores, float("-inf")).scatter(-1, ids, 0.0)


class Forced(Restarts, LogitsProcessor):
    """Draws given ids, (prompts, tokens), whatever the logits."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids
        self.restart()

    def restart(self) -> None:
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.step += 1
        return only(scores, self.ids[:, self.step - 1, None])


# Whether a model runs a batch, by model and number of tokens: a probe costs some six forward passes of them.
BATCHES: WeakKeyDictionary[Any, dict[int, bool]] = WeakKeyDictionary()
# Tokens of the shorter of a probe's texts, and how many tokens at the end of each are drawn.
SHORT, DRAWN = 7, 3


def probed_length(model: "PreTrainedModel", longest: int) -> int:
    """Return the length of a probe for texts of at most `longest` tokens: the next power of two, within the context."""
    length = 1 << max(4, (longest - 1).bit_length())
    return min(length, max(longest, context_length(model) or length))


def runs_in_batches(model: "PreTrainedModel", longest: int) -> bool:
    """Return whether texts that are generated side by side get the logits that each gets alone.

    `longest` is the most tokens of a text. Padding moves the positions of BART, and the recurrent states of RWKV and
    RecurrentGemma; LongRoPE gives all texts of a batch the frequencies of the longest.
    """
    length = probed_length(model, longest)

    def together(texts: Texts) -> Logits:
        prompts, forced = [text[:-DRAWN].tolist() for text in texts], torch.stack([text[-DRAWN:] for text in texts])
        options: dict[str, Any] = {"max_new_tokens": DRAWN, "do_sample": False, "output_logits": True}
        _, found = generated(model, prompts, 0, [Forced(forced)], **options)
        after = torch.stack(found, dim=1)  # (texts, drawn, vocabulary)
        # Those before are not asked for, and not the one behind the last id.
        alone = [logits(model, text) for text in texts]
        return [torch.cat([own[: -DRAWN - 1], drawn, own[-1:]]) for own, drawn in zip(alone, after, strict=True)]

    known = BATCHES.setdefault(model, {})
    if length not in known:
        known[length] = runs_as_alone(model, (length, SHORT), together)
    return known[length]


class Finite(LogitsProcessor):
    """Raises PipelineError for logits from which no token can be drawn; the likeliest of them would be token 0."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not bool(scores.amax(-1).isfinite().all()):
            raise PipelineError(
                "The model gives logits that are not finite, so its training diverged or its files are damaged; train"
                " it again with a lower `learning_rate`, or name another model."
            )
        return scores


def forbidden_ids(tokenizer: MarkerTokenizer, rows: int) -> list[int]:
    """Return the ids below `rows` that no reply contains or ends with: control tokens, and rows without a token."""
    inner = tokenizer.tokenizer
    control = set(inner.all_special_ids) | {id for id, token in inner.added_tokens_decoder.items() if token.special}
    ends = {tokenizer.accepted_id, tokenizer.rejected_id, *tokenizer.eos_ids}
    allowed = (set(inner.get_vocab().values()) - control) | ends
    return [id for id in range(rows) if id not in allowed]


@dataclass
class Spelling:
    """Decodes ids to the text of a turn, without special tokens, control characters and marker strings."""

    tokenizer: MarkerTokenizer
    speaks: bool  # whether a turn starts with its speaker's line

    def text(self, ids: Iterable[int]) -> str:
        return neutral(self.tokenizer.decode(ids).translate(CONTROL), self.tokenizer.markers)

    def parts(self, text: str) -> tuple[str | None, str]:
        """Return speaker and text of a turn; without a line break, all is text."""
        speaker, line_break, rest = text.partition("\n")
        return (speaker, rest) if self.speaks and line_break else (None, text)

    def may_end(self, text: str) -> bool:
        """Return whether a turn that starts like this has a text, and so may end."""
        return bool((text.partition("\n")[2] if self.speaks else text).strip().strip(UNFINISHED))


class Grammar(Restarts, LogitsProcessor):
    """Constrains turns, one a row, to the grammar of a walk: excluded tokens get probability 0.

    Excluded are the `forbidden` ids, and the ids that end a turn until the turn has a text. `prompt` is the width of
    the batch's prompts.
    """

    def __init__(self, spelling: Spelling, prompt: int, forbidden: list[int]) -> None:
        self.spelling = spelling
        self.prompt = prompt
        self.forbidden = torch.tensor(forbidden, dtype=torch.long)
        self.ends = torch.tensor(stop_ids(spelling.tokenizer))
        self.restart()

    def restart(self) -> None:
        self.may_end: set[int] = set()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.index_fill(-1, self.forbidden.to(scores.device), float("-inf"))
        for row in set(range(len(scores))) - self.may_end:
            if self.spelling.may_end(self.spelling.text(input_ids[row, self.prompt :].tolist())):
                self.may_end.add(row)
            else:
                scores[row, self.ends.to(scores.device)] = float("-inf")
        return scores


class Drawn(Restarts, LogitsProcessor):
    """Leaves of each row's ids only the one that is drawn with the row's own random numbers.

    So a row gets what it gets alone; transformers draws all rows of a batch with one generator.
    """

    def __init__(self, seeds: list[int], sampling: Sampling, device: torch.device) -> None:
        self.seeds, self.device = seeds, device
        self.restart()
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
        if sampling.top_p < 1:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))

    def restart(self) -> None:
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        shares = self.warpers(input_ids, scores).softmax(-1)  # type: ignore[arg-type]
        rows = zip(shares, self.generators, strict=True)
        return only(scores, torch.stack([torch.multinomial(row, 1, generator=generator) for row, generator in rows]))


@dataclass
class TextStream(Restarts, BaseStreamer):
    """Passes the text of one turn to `show` while it grows; the pieces concatenated are `Spelling.text`.

    A piece ends with a complete character, and before anything that may become a marker string.
    """

    spelling: Spelling
    show: Callable[[str], None]
    ids: list[int] = field(default_factory=list)
    shown: int = 0
    begun: bool = False

    def restart(self) -> None:
        # What was shown stays: the same tokens are drawn again.
        self.ids, self.begun = [], False

    def put(self, value: torch.Tensor) -> None:
        # The first value is the prompt.
        if self.begun:
            self.ids += value.flatten().tolist()
            self._show(self._settled())
        self.begun = True

    def end(self) -> None:
        self._show(self.spelling.text(self.ids))

    def _settled(self) -> str:
        text = self.spelling.text(self.ids).rstrip(UNFINISHED)
        for marker in self.spelling.tokenizer.markers.strings():
            for length in range(len(marker) - 1, 0, -1):
                if text.endswith(marker[:length]):
                    text = text[:-length]
                    break
        return text

    def _show(self, text: str) -> None:
        if len(text) > self.shown:
            self.show(text[self.shown :])
            self.shown = len(text)
