"""Drawing tokens from a model: where a turn ends, what may not be written, and text as it comes.

The evaluation's samples and the replies that people read are drawn by the same function; only the replies
are held to the grammar, since the samples are there to tell whether a model keeps it by itself. With
the small model a reply costs 2 to 3 ms a token on one core, grammar and text included.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.conversation import neutral
from adc_pipeline.training.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# No text may move the cursor or change a terminal's settings, nor hide a marker string behind what is not seen.
CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
# Below this, numbers of 32 bits tell the likeliest token from the others no longer by drawing.
COLDEST = 1e-6
# What stands for bytes that are no character yet.
UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: at temperature 0 the likeliest one, else of the likeliest that make up `top_p`."""

    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 200
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise PipelineError(f"`temperature` is {self.temperature}; use 0 or more.")
        if not 0 < self.top_p <= 1:
            raise PipelineError(f"`top_p` is {self.top_p}; use more than 0 and at most 1.")
        if self.max_new_tokens < 1:
            raise PipelineError(f"`max_new_tokens` is {self.max_new_tokens}; use 1 or more.")

    def options(self) -> dict[str, Any]:
        """The same in transformers' words."""
        if self.temperature < COLDEST:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": self.top_p}


def stop_ids(tokenizer: MarkerTokenizer) -> list[int]:
    """What ends a turn, and what no turn holds: the three markers and the end of the text."""
    return [tokenizer.accepted_id, tokenizer.rejected_id, tokenizer.background_id, *tokenizer.eos_ids]


def continuations(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    stops: list[int],
    sampling: Sampling,
    grammar: LogitsProcessor | None = None,
    streamer: BaseStreamer | None = None,
) -> list[list[int]]:
    """New tokens after each prompt, at least one, up to and including the first of `stops`.

    All prompts are one batch with the key-value cache; a `streamer` takes one prompt only. Draws from
    torch's global generator.
    """
    # What is not set below would be taken from here: a repetition penalty, say, that the base model came with.
    model.generation_config = GenerationConfig()
    width = max(map(len, prompts))
    # Padding stands on the left and is masked, so that any id may stand there.
    ids = torch.tensor([[stops[0]] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_processor=LogitsProcessorList([] if grammar is None else [grammar]),
            streamer=streamer,
            generation_config=GenerationConfig(
                min_new_tokens=1,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=stops,
                pad_token_id=stops[0],
                **sampling.options(),
            ),
        )
    written: list[list[int]] = output[:, width:].tolist()
    ends = [next((at for at, id in enumerate(ids, 1) if id in stops), len(ids)) for ids in written]
    return [ids[:end] for ids, end in zip(written, ends, strict=True)]


def forbidden_ids(tokenizer: MarkerTokenizer, rows: int) -> list[int]:
    """Ids below `rows` that no reply holds or ends with: control tokens, and rows that stand for no token."""
    inner = tokenizer.tokenizer
    control = set(inner.all_special_ids) | {id for id, token in inner.added_tokens_decoder.items() if token.special}
    ends = {tokenizer.accepted_id, tokenizer.rejected_id, *tokenizer.eos_ids}
    allowed = (set(inner.get_vocab().values()) - control) | ends
    return [id for id in range(rows) if id not in allowed]


@dataclass
class Spelling:
    """How ids become the text of a turn: whole characters, no special token, no control character, no marker string."""

    tokenizer: MarkerTokenizer
    speaks: bool  # whether a turn begins with its speaker's line

    def text(self, ids: Iterable[int]) -> str:
        decoded = self.tokenizer.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return neutral(str(decoded).translate(CONTROL), self.tokenizer.markers)

    def parts(self, text: str) -> tuple[str | None, str]:
        """Speaker and text of a turn; what has no line break is all text."""
        speaker, line_break, said = text.partition("\n")
        return (speaker, said) if self.speaks and line_break else (None, text)

    def said_something(self, text: str) -> bool:
        """Whether a turn that begins like this may end."""
        return bool((text.partition("\n")[2] if self.speaks else text).strip().strip(UNFINISHED))


class Grammar(LogitsProcessor):
    """Keeps one turn to the grammar of a walk: what may not be written gets no probability.

    Those are the `forbidden` ids all the time, and whatever ends a turn until the turn says something.
    """

    def __init__(self, spelling: Spelling, prompt: int, forbidden: list[int]) -> None:
        self.spelling = spelling
        self.prompt = prompt
        self.forbidden = torch.tensor(forbidden, dtype=torch.long)
        self.ends = torch.tensor(stop_ids(spelling.tokenizer))
        self.may_end = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.index_fill(-1, self.forbidden.to(scores.device), float("-inf"))
        if not self.may_end:
            self.may_end = self.spelling.said_something(self.spelling.text(input_ids[0, self.prompt :].tolist()))
        if not self.may_end:
            scores = scores.index_fill(-1, self.ends.to(scores.device), float("-inf"))
        return scores


@dataclass
class TextStream(BaseStreamer):
    """Hands the text of one turn to `show` as it grows; the pieces put together are `Spelling.text`.

    A piece ends where a character ends, and before anything that may yet turn out to be a marker string.
    """

    spelling: Spelling
    show: Callable[[str], None]
    ids: list[int] = field(default_factory=list)
    shown: int = 0
    begun: bool = False

    def put(self, value: torch.Tensor) -> None:
        # The first that comes is the prompt.
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
