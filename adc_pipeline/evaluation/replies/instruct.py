"""Ask an instruct model for replies, and tell it in words that its earlier ones were rejected.

A control of policy improvement without training: whether training on rejected replies adds anything to asking a model
that follows instructions. It reads the thread as one message, and answers; its answer is followed by the message that
readers rejected it and want a better one. Its chat template lays the messages out.

No code that comes with a model is run. The model is saved beside the judge, so that evaluations need neither network
nor the folder, and a damaged file is noticed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.evaluation.judging.named_models import NamedModel
from adc_pipeline.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adc_pipeline.evaluation.cases.contexts import Context

# The folder of the model beside the judge.
INSTRUCT = "instruct"

REQUEST = "This is a thread of an online forum.\n\n{thread}\n\nWrite the next reply. Answer with its text only."
REJECTED = "Readers rejected this reply. Write a better one. Answer with its text only."


class InstructModel:
    """An instruct model as the author of replies (`reply_writer.Author`)."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", speaks: bool, context_tokens: int
    ) -> None:
        """`speaks` says whether the turns of contexts begin with their speaker's line, which it does not read."""
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ids = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self.model, self.tokenizer, self.speaks, self.context_tokens = model, tokenizer, speaks, context_tokens
        self.stops = [id for id in dict.fromkeys(ids) if id is not None]

    @classmethod
    def load(cls, folder: Path, speaks: bool, settings: EvaluationSettings) -> "InstructModel":
        """Load the model that `prepare_instruct_model` saved, onto the GPU if there is one."""
        from transformers import AutoTokenizer

        from adc_pipeline.training.architectures.context import context_length
        from adc_pipeline.training.architectures.loading import load_model
        from adc_pipeline.training.loop.devices import one_device

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DamagedError(f"The instruct model in {folder} cannot be loaded: materialize judge again.") from error
        model: Any = load_model(folder)
        longest = min(context_length(model) or settings.max_context_tokens, settings.max_context_tokens)
        return cls(model.to(one_device()).eval(), tokenizer, speaks, longest)

    def prompt(self, context: "Context", rejected: Sequence[str], room: int) -> list[int]:
        """Return the ids of the messages up to the next reply.

        What is longer than `room` tokens loses the beginning of the thread, then the earliest rejected replies.
        """
        turns = [context.background, *(turn for turn, _ in context.turns)]
        thread = "\n\n".join(turn.partition("\n")[2] if self.speaks else turn for turn in turns)
        replies = list(rejected)
        while len(ids := self._ids(thread, replies)) > room and (thread or replies):
            if thread:
                thread = thread[len(thread) // 2 + 1 :]
            else:
                replies.pop(0)
        return ids[-room:]

    def _ids(self, thread: str, replies: Sequence[str]) -> list[int]:
        messages = [{"role": "user", "content": REQUEST.format(thread=thread)}]
        for reply in replies:
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": REJECTED}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def turn(self, ids: Iterable[int]) -> str:
        """Return what was written as a turn, which is its text."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def text(self, turn: str) -> str:
        return turn


def prepare_instruct_model(named: NamedModel, out: Path) -> None:
    """Load the model that a setting names and save it to `out`.

    Raise PipelineError if the model has no chat template, and for whatever the libraries raise.
    """
    from transformers import AutoTokenizer

    from adc_pipeline.training.architectures.loading import load_weights

    with named.reported():
        tokenizer = AutoTokenizer.from_pretrained(named.source, trust_remote_code=False, **named.options)
        if not tokenizer.chat_template:
            raise PipelineError(
                f"The `{named.setting}` {named.name!r} has no chat template: name a model that follows instructions."
            )
        subject = f"The `{named.setting}` {named.name!r}"
        model = load_weights(named.source, subject, use_safetensors=True, **named.options)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
