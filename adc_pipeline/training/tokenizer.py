"""Tokenizers: a small byte-level BPE trained here, and the markers as tokens of any tokenizer.

Byte-level BPE knows every text (no unknown token), needs no normalisation, and decodes to exactly what
was encoded. Training on 3 MB of text takes about 1 s on 2 cores; more than the first
`TRAINING_CHARACTERS` are not read, because merges hardly change after that.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from adc_pipeline.errors import PipelineError
from adc_pipeline.walks.markers import Markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
TRAINING_CHARACTERS = 50_000_000


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, `<|endoftext|>` (id 0) being its end.

    Three of the `vocabulary` are left for the markers, which `add_markers` adds.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 3,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_first_characters(texts, TRAINING_CHARACTERS), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _first_characters(texts: Iterable[str], most: int) -> Iterator[str]:
    for text in texts:
        yield text
        most -= len(text)
        if most <= 0:
            return


def add_markers(tokenizer: "PreTrainedTokenizerBase", markers: Markers) -> int:
    """Add background, rejected and accepted as special tokens, in this order; returns how many were new.

    Raises PipelineError where the tokenizer already uses one of the strings as an ordinary token.
    """
    from transformers import AddedToken

    added = tokenizer.added_tokens_decoder
    vocabulary = tokenizer.get_vocab()
    for marker in markers.strings():
        known = vocabulary.get(marker)
        if known is not None and not (known in added and added[known].special):
            raise PipelineError(
                f"The base model's tokenizer already has {marker!r} as an ordinary token; choose another"
                " `format` of the walks or another base model."
            )
    return tokenizer.add_tokens(
        [AddedToken(marker, special=True, normalized=False) for marker in markers.strings()],
        special_tokens=True,
    )
