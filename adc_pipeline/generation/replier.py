"""A model that answers posts: loaded from wherever it is, and asked for one reply at a time.

What it was trained with, `training.json` beside its weights says: the objective (which decides how a
conversation is laid out), the longest piece of a walk, and whether its dataset names speakers. A model without
that file is taken for one of the default settings. Each reply reads its conversation anew: keeping the
key-value cache between replies would save 15 ms for 300 tokens of the small model, and does not work for
models that forget (sliding windows, state spaces).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.address import Place, first_line
from adc_pipeline.generation.conversation import Conversation, prompt_ids, utterance
from adc_pipeline.generation.decoding import (
    Grammar,
    Sampling,
    Spelling,
    TextStream,
    continuations,
    forbidden_ids,
    stop_ids,
)
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.training.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Context of a model that says nothing of its own, in tokens.
UNKNOWN_CONTEXT = 1024

# Who wrote the post, unless told otherwise: the first speaker's pseudonym in every conversation, and a name
# like any other to a model that knows names.
FIRST_SPEAKER = "user1"

Ended = Literal["accepted", "rejected", "end", "length"]


@dataclass(frozen=True)
class Reply:
    """What a model wrote: its speaker's line where it has one, its text, and what ended it."""

    speaker: str | None
    text: str
    ended: Ended

    @property
    def turn(self) -> str:
        """As a turn of the conversation."""
        return utterance(self.speaker, self.text)


class Replier:
    """A causal language model with our markers, on the GPU where there is one."""

    def __init__(self, model: "PreTrainedModel", tokenizer: MarkerTokenizer, training: dict[str, Any]) -> None:
        """`training` are the facts of `training.json`, as far as they are known."""
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.arranged = Arrangement(
            rejected_left_out=training.get("objective") == "filtering",
            markers_first=training.get("markers") == "before",
        )
        self.spelling = Spelling(tokenizer, speaks=training.get("speakers") != "none")
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or UNKNOWN_CONTEXT
        # Further than the longest piece of a walk in its training, a model has never looked back.
        seen = training.get("train", {}).get("sequence_length") or UNKNOWN_CONTEXT
        self.context_tokens: int = min(longest, seen)
        rows = next(model.get_input_embeddings().parameters()).shape[0]
        self.forbidden = forbidden_ids(tokenizer, rows)

    @classmethod
    def load(cls, place: Place) -> "Replier":
        """Raises PipelineError where there is no causal language model with our markers."""
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.hub import cached_file
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            # First, since it is small and says whether the weights are worth a download.
            plain = AutoTokenizer.from_pretrained(place.tokenizer, **place.options)
            try:
                tokenizer = MarkerTokenizer(plain)
            except PipelineError as error:
                raise PipelineError(
                    f"The tokenizer of `--model` {place.address} has no markers; name a model that this pipeline"
                    " trained, such as models:/adc-top-2@latest or ADC_HOME/models/top-2."
                ) from error
            facts = cached_file(place.weights, "training.json", _raise_exceptions_for_missing_entries=False)
            training = json.loads(Path(facts).read_text()) if facts else {}
            if training.get("markers") == "none":
                raise PipelineError(
                    f"`--model` {place.address} was trained with `markers: stripped`, so it cannot be told what was"
                    " rejected and its replies have no end; name a model that was trained with markers."
                )
            model = AutoModelForCausalLM.from_pretrained(place.weights, **place.options)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise PipelineError(
                f"`--model` {place.address} cannot be loaded ({first_line(error)}); check the spelling and the network,"
                " or give the folder of a model."
            ) from error
        return cls(model, tokenizer, training)

    def about(self, post: str, speaker: str = FIRST_SPEAKER, title: str | None = None) -> Conversation:
        """The conversation that a post begins (see `Conversation.about`), its speaker named if the model knows any."""
        if "\n" in speaker or not speaker.strip():
            raise PipelineError("The `speaker` has to be one line that is not empty; leave it out to be user1.")
        return Conversation.about(post, speaker if self.spelling.speaks else None, self.tokenizer.markers, title)

    def with_turn(
        self, conversation: Conversation, text: str, verdict: Verdict, speaker: str | None = None
    ) -> Conversation:
        """The conversation with a turn that somebody wrote: `speaker`, or one who has not spoken yet."""
        speaker = speaker or f"user{len(conversation.turns) + 2}"
        turn = utterance(speaker if self.spelling.speaks else None, text.strip())
        return conversation.after(turn, verdict, self.tokenizer.markers)

    def judged(self, conversation: Conversation, reply: Reply, verdict: Verdict) -> Conversation:
        """The conversation with a reply of the model's own, accepted or rejected."""
        return conversation.after(reply.turn, verdict, self.tokenizer.markers)

    def reply(
        self, conversation: Conversation, sampling: Sampling, show: Callable[[str], None] = lambda piece: None
    ) -> Reply:
        """The next turn, never empty unless the length did not suffice; `show` gets it piece by piece as it comes.

        What is shown is the turn as it is spelt, its speaker's line included. At most half of the model's
        context is written, so that the other half is left to read.
        """
        most = min(sampling.max_new_tokens, self.context_tokens // 2)
        prompt = prompt_ids(conversation, self.tokenizer, self.arranged, self.context_tokens - most)
        # A seed is this reply's own: whatever is drawn afterwards stays as random as it was. With the same numbers
        # after every turn, a model would often repeat the reply that was just rejected.
        with torch.random.fork_rng(enabled=sampling.seed is not None):
            if sampling.seed is not None:
                torch.manual_seed((sampling.seed + len(conversation.turns)) % 2**63)
            (ids,) = continuations(
                self.model,
                [prompt],
                stop_ids(self.tokenizer),
                Sampling(sampling.temperature, sampling.top_p, most),
                Grammar(self.spelling, len(prompt), self.forbidden),
                TextStream(self.spelling, show),
            )
        ends: dict[int, Ended] = {
            self.tokenizer.accepted_id: "accepted",
            self.tokenizer.rejected_id: "rejected",
            **dict.fromkeys(self.tokenizer.eos_ids, "end"),
        }
        return Reply(*self.spelling.parts(self.spelling.text(ids)), ended=ends.get(ids[-1], "length"))
