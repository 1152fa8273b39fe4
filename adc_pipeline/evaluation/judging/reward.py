"""Score replies by a reward model: a sequence-classification model from a folder or the Hub.

The score of a reply is the model's only logit, or with two labels the second minus the first. A text-to-text model such
as SteamSHP (Ethayarajh et al. 2022) has no such head; there it is the logit of the answer "A" minus that of "B", where
the reply is response A and response B is empty. The model reads the utterance that is replied to and the reply, without
speakers. What is too long loses its beginning.

Only safetensors are read, and no code that comes with a model is run. The model is saved beside the judge, so that
evaluations need neither network nor the folder, and a damaged file is noticed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.arrays import Floats
from adc_pipeline.evaluation.judging.named_models import NamedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What a model reads, with the placeholders post, reply and eos. The first is DialogRPT's, the second SteamSHP's.
CLASSIFICATION = "{post}{eos}{reply}"
TEXT_TO_TEXT = "POST: {post}\n\n RESPONSE A: {reply}\n\n RESPONSE B: .\n\n Which response is better? RESPONSE"
# Tokens of a batch, padding included, and of a text if neither model nor tokenizer has a limit.
BATCH_TOKENS, LONGEST = 8192, 1024


@dataclass
class RewardModel:
    """A loaded reward model; `template` is what it reads."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    template: str
    text_to_text: bool

    @classmethod
    def load(cls, source: str, template: str, **options: Any) -> "RewardModel":
        """Load a model from a folder or a Hub name, in float32, onto the GPU if there is one.

        An empty `template` is that of the model's kind. Raises PipelineError if the model is no reward model or not
        complete, and what transformers raises for files that it cannot read.
        """
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForSeq2SeqLM,
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        from adc_pipeline.training.architectures.precision import broken_tensor
        from adc_pipeline.training.architectures.weight_files import refuse_adapter
        from adc_pipeline.training.loop.devices import one_device

        subject, trusted = f"The reward model {source}", {**options, "trust_remote_code": False}
        refuse_adapter(source, subject, **options)
        config = AutoConfig.from_pretrained(source, **trusted)
        named = (config.architectures or [""])[0]
        text_to_text = named.endswith("ForConditionalGeneration")
        if not text_to_text and not named.endswith("ForSequenceClassification"):
            raise PipelineError(
                f"{subject} is a {named or config.model_type}, which does not score a text: set `reward_model` to a"
                " sequence-classification model with one or two labels, or to a text-to-text model."
            )
        if not text_to_text and config.num_labels > 2:
            raise PipelineError(
                f"{subject} has {config.num_labels} labels, of which none is a score: set `reward_model` to a model"
                " with one or two."
            )
        tokenizer = AutoTokenizer.from_pretrained(source, **trusted)
        kind: Any = AutoModelForSeq2SeqLM if text_to_text else AutoModelForSequenceClassification
        model, found = kind.from_pretrained(
            source, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **trusted
        )
        if missing := sorted(found["missing_keys"]):
            raise PipelineError(f"{subject} is incomplete: it has no tensor {missing[0]}; choose a complete model.")
        if broken := broken_tensor(model):
            raise PipelineError(f"{subject} has weights that are not finite ({broken}); choose another.")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        model.config.pad_token_id = tokenizer.pad_token_id
        tokenizer.truncation_side, tokenizer.padding_side = "left", "right"
        template = template or (TEXT_TO_TEXT if text_to_text else CLASSIFICATION)
        return cls(model.to(one_device()).eval(), tokenizer, template, text_to_text)

    @property
    def longest(self) -> int:
        """The longest text in tokens."""
        from adc_pipeline.training.architectures.context import context_length

        return min(context_length(self.model) or LONGEST, self.tokenizer.model_max_length, LONGEST)

    def scores(self, posts: Sequence[str], replies: Sequence[str]) -> Floats:
        """Return the scores of replies to posts, (replies,); raise PipelineError if a score is not finite."""
        import torch

        eos = self.tokenizer.eos_token or self.tokenizer.sep_token or "\n"
        texts = [filled(self.template, post, reply, eos) for post, reply in zip(posts, replies, strict=True)]
        if not texts:
            return np.zeros(0)
        encoded = self.tokenizer(texts, truncation=True, max_length=self.longest)["input_ids"]
        found = np.zeros(len(texts))
        with torch.inference_mode():
            for batch in batches([len(ids) for ids in encoded]):
                padded = self.tokenizer.pad({"input_ids": [encoded[n] for n in batch]}, return_tensors="pt")
                found[batch] = self.batch_scores(padded.to(self.model.device)).double().cpu().numpy()
        if not np.isfinite(found).all():
            raise PipelineError("The reward model gives scores that are not finite; choose another `reward_model`.")
        return found

    def batch_scores(self, padded: Any) -> Any:
        """Return the scores of one padded batch."""
        import torch

        inputs = {name: padded[name] for name in ("input_ids", "attention_mask")}
        if not self.text_to_text:
            logits = self.model(**inputs).logits.float()
            return logits[:, -1] - (logits[:, 0] if logits.shape[1] > 1 else 0)
        start = torch.full((len(inputs["input_ids"]), 1), self.model.config.decoder_start_token_id)
        logits = self.model(**inputs, decoder_input_ids=start.to(self.model.device)).logits[:, -1].float()
        first, second = (self.tokenizer(answer, add_special_tokens=False)["input_ids"][-1] for answer in "AB")
        return logits[:, first] - logits[:, second]


def filled(template: str, post: str, reply: str, eos: str) -> str:
    """Return the template with its placeholders filled; what is put in is not searched for placeholders."""
    values = {"{post}": post, "{reply}": reply, "{eos}": eos}
    return re.sub(r"\{(post|reply|eos)\}", lambda found: values[found[0]], template)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts in batches of nearly equal lengths and at most `BATCH_TOKENS` tokens with padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def post_of(background: str, turns: Sequence[tuple[str, Any]], named: bool) -> str:
    """Return the text that a reply is to: the last turn's, or that of the root.

    `named` says that texts begin with the speaker's line, which is left out.
    """
    text = turns[-1][0] if turns else background
    return text.partition("\n")[2] if named else text


def prepare_reward_model(named: NamedModel, template: str, out: Path) -> dict[str, Any]:
    """Load the model that a setting names and save it to `out`; return its facts for `judge.json`.

    Raise PipelineError for whatever the libraries raise.
    """
    with named.reported():
        found = RewardModel.load(named.source, template, **named.options)
        found.model.save_pretrained(out)
        found.tokenizer.save_pretrained(out)
    return {"model": named.name, "template": found.template}
