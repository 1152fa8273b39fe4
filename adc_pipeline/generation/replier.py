"""A model that answers posts, one reply at a time.

`training.json` beside its weights states how conversations are laid out, the longest piece of a walk, and whether the
dataset has speakers. A model without that file gets the defaults. Each reply reads its conversation again: keeping the
key-value cache between replies would save 15 ms for 300 tokens of the small model, and does not work for models with
sliding windows or state spaces.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from transformers import LogitsProcessor

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.address import Place
from adc_pipeline.generation.conversation import FIRST_SPEAKER, Conversation, prompt_ids, utterance
from adc_pipeline.generation.decoding import (
    Drawn,
    Grammar,
    Spelling,
    TextStream,
    continuations,
    forbidden_ids,
    runs_in_batches,
    stop_ids,
)
from adc_pipeline.generation.settings import Sampling
from adc_pipeline.training.architectures.context import context_length
from adc_pipeline.training.architectures.loading import load_weights, reason
from adc_pipeline.training.architectures.memory import enough_memory
from adc_pipeline.training.loop.devices import one_device
from adc_pipeline.training.texts.facts import FACTS, ModelFacts
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Context in tokens of a model that does not state its own.
UNKNOWN_CONTEXT = 1024

# Conversations that are answered side by side. A server estimates a request's time after each batch.
BATCH_ROWS = 8

Ended = Literal["accepted", "rejected", "end", "length"]


@dataclass(frozen=True)
class Reply:
    """A reply: its speaker's line if it has one, its text, and what ended it."""

    speaker: str | None
    text: str
    ended: Ended

    @property
    def turn(self) -> str:
        """Return the reply as a turn of the conversation."""
        return utterance(self.speaker, self.text)


def out_of_memory() -> PipelineError:
    return PipelineError(
        "The model ran out of memory over a conversation; lower `max_new_tokens`, shorten the post and the replies, or"
        " use a device with more memory."
    )


def check_speaker(speaker: str) -> None:
    """Raise PipelineError for a speaker that cannot stand on a line of its own."""
    if "\n" in speaker or not speaker.strip():
        raise PipelineError("The `speaker` has to be one line that is not empty; leave it out for a new one.")


class Replier:
    """A causal language model with our markers, on the GPU if there is one."""

    def __init__(self, model: "PreTrainedModel", tokenizer: MarkerTokenizer, facts: ModelFacts) -> None:
        self.model = model.to(one_device()).eval()  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.facts = facts
        self.arranged = facts.arrangement
        self.spelling = Spelling(tokenizer, speaks=facts.speakers != "none")
        # Beyond the longest piece of a walk in its training, a model's positions are untrained.
        self.context_tokens = min(context_length(model) or UNKNOWN_CONTEXT, facts.sequence_length or UNKNOWN_CONTEXT)
        rows = next(model.get_input_embeddings().parameters()).shape[0]
        self.forbidden = forbidden_ids(tokenizer, rows)

    @classmethod
    def load(cls, place: Place) -> "Replier":
        """Load a model; raises PipelineError if there is no causal language model with our markers."""
        from transformers import AutoTokenizer
        from transformers.utils.hub import cached_file
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            # The tokenizer comes first: it is small and shows whether the weights are worth a download.
            plain = AutoTokenizer.from_pretrained(place.tokenizer, **place.options)
            try:
                tokenizer = MarkerTokenizer(plain)
            except PipelineError as error:
                raise PipelineError(
                    f"The tokenizer of `--model` {place.address} has no markers; name a model that this pipeline"
                    " trained, such as models:/adc-top-2@latest or ADC_HOME/models/top-2."
                ) from error
            path = cached_file(place.weights, FACTS, _raise_exceptions_for_missing_entries=False)
            facts = ModelFacts.read_file(Path(path)) if path else ModelFacts()
            if facts.markers == "none":
                raise PipelineError(
                    f"`--model` {place.address} was trained with `markers: stripped`: it does not know which replies"
                    " were rejected, and its replies have no end; name a model that was trained with markers."
                )
            model = load_weights(place.weights, f"`--model` {place.address}", dtype="auto", **place.options)
        except PipelineError:
            raise
        except Exception as error:
            raise PipelineError(
                f"`--model` {place.address} cannot be loaded ({reason(error)}); check the spelling and the network,"
                " or give the folder of a model."
            ) from error
        return cls(model, tokenizer, facts)

    def about(self, post: str, speaker: str = FIRST_SPEAKER, title: str | None = None) -> Conversation:
        """Start a conversation with a post (see `Conversation.about`), without a speaker if the model knows none."""
        check_speaker(speaker)
        return Conversation.about(post, speaker if self.spelling.speaks else None, self.tokenizer.markers, title)

    def with_turn(
        self, conversation: Conversation, text: str, verdict: Verdict, speaker: str | None = None
    ) -> Conversation:
        """Return the conversation with a turn by `speaker`, or by a new speaker."""
        speaker = speaker or f"user{len(conversation.turns) + 2}"
        check_speaker(speaker)
        turn = utterance(speaker if self.spelling.speaks else None, text.strip())
        return conversation.after(turn, verdict, self.tokenizer.markers)

    def judged(self, conversation: Conversation, reply: Reply, verdict: Verdict) -> Conversation:
        """Return the conversation with a reply of the model, accepted or rejected."""
        return conversation.after(reply.turn, verdict, self.tokenizer.markers)

    def reply(
        self, conversation: Conversation, sampling: Sampling, show: Callable[[str], None] = lambda piece: None
    ) -> Reply:
        """Write the next turn; it is empty only if the length does not suffice. `show` gets it piece by piece.

        The pieces include the speaker's line. A reply takes at most half of the model's context and leaves the other
        half for the conversation.
        """
        (reply,) = self._replies([conversation], sampling, TextStream(self.spelling, show))
        return reply

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[list[Reply]]:
        """Yield the replies to conversations batch by batch; each is what `reply` would write."""
        size = 1
        if len(conversations) > 1:
            most = min(sampling.max_new_tokens, self.context_tokens // 2)
            longest = max(len(self._prompt(conversation, most)) for conversation in conversations) + most
            size = BATCH_ROWS if runs_in_batches(self.model, longest) else 1
        for begin in range(0, len(conversations), size):
            yield self._replies(conversations[begin : begin + size], sampling)

    def _prompt(self, conversation: Conversation, most: int) -> list[int]:
        return prompt_ids(conversation, self.tokenizer, self.arranged, self.context_tokens - most)

    def _replies(
        self, conversations: Sequence[Conversation], sampling: Sampling, stream: TextStream | None = None
    ) -> list[Reply]:
        most = min(sampling.max_new_tokens, self.context_tokens // 2)
        prompts = [self._prompt(conversation, most) for conversation in conversations]
        processors: list[LogitsProcessor] = [Grammar(self.spelling, max(map(len, prompts)), self.forbidden)]
        if sampling.options()["do_sample"]:
            # With the same random numbers after every turn, a model would often repeat the reply that was just
            # rejected.
            seeds = [
                int(torch.randint(2**62, ())) if sampling.seed is None else (sampling.seed + len(each.turns)) % 2**63
                for each in conversations
            ]
            processors.append(Drawn(seeds, sampling, self.model.device))
        likeliest = Sampling(0.0, 1.0, most)
        with enough_memory(out_of_memory()):
            written = continuations(self.model, prompts, stop_ids(self.tokenizer), likeliest, processors, stream)
        ends: dict[int, Ended] = {
            self.tokenizer.accepted_id: "accepted",
            self.tokenizer.rejected_id: "rejected",
            **dict.fromkeys(self.tokenizer.eos_ids, "end"),
        }
        return [
            Reply(*self.spelling.parts(self.spelling.text(ids)), ended=ends.get(ids[-1], "length")) for ids in written
        ]
