"""The tokenizer of a model with markers: a marker id stands for a verdict and for nothing else.

Texts are tokenized by themselves, as plain text; marker ids are put between them (see `layout`). So no text yields a
marker or another special token, whatever its author typed, and every token belongs to exactly one turn. No token spans
the end of a turn, where a marker stands anyway. Speed: 0.8 million tokens a second on 2 cores where turns are a
sentence, 2 million where they are paragraphs.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adc_pipeline.core.errors import DamagedError, PipelineError, first_line
from adc_pipeline.walks.markers import FORMATS, Markers, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Characters of which every tokenizer is expected to know one.
KNOWN_CHARACTERS = ("a", "A", "0", "e", "的", "の", "и", "ا")


class Label(NamedTuple):
    """What is written for a turn: markers, and then words as plain text."""

    markers: tuple[Verdict, ...]
    words: str = ""


class MarkerTokenizer:
    """A tokenizer whose marker ids come from our markers only, never from a text.

    Raises PipelineError where the tokenizer has the markers of no format. Of two formats the one added last counts: a
    model that was fine-tuned on one and prepared again for the other uses the newer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        known = [markers for markers in FORMATS.values() if all(text in added for text in markers.strings())]
        if not known:
            raise PipelineError(
                f"The tokenizer in {tokenizer.name_or_path or 'the model folder'} has no markers; start from a"
                " folder that prepare_base_model wrote."
            )
        self.markers: Markers = max(known, key=lambda markers: added[markers.accepted])
        self.background_id: int = added[self.markers.background]
        self.rejected_id: int = added[self.markers.rejected]
        self.accepted_id: int = added[self.markers.accepted]
        bos, eos, unknown = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
        self.prefix_ids: list[int] = prefix_ids(tokenizer)
        self.eos_ids: list[int] = [] if eos is None else [eos]
        self._words: dict[str, list[int]] = {}
        # An unknown character is content, unless the same id also ends a text, as in GPT-2.
        self._special = (set(added.values()) | set(tokenizer.all_special_ids)) - ({unknown} - {bos, eos})

    @classmethod
    def load(cls, folder: Path) -> "MarkerTokenizer":
        """Load the tokenizer of a model folder; raise DamagedError for whatever the libraries raise."""
        from transformers import AutoTokenizer

        try:
            plain = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise DamagedError(
                f"The tokenizer in {folder} cannot be loaded ({first_line(error)}): materialize the asset that made it"
                " again."
            ) from error
        return cls(plain)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize each text as plain text; no list contains a special id.

        Raises PipelineError for a text that the tokenizer cannot read, such as one with an unknown word.
        """
        try:
            encoded = self._encoded(texts)
        except Exception as error:
            raise PipelineError(
                f"The base model's tokenizer, a {type(self.tokenizer).__name__}, cannot read every text"
                f" ({first_line(error)}); choose another base model."
            ) from error
        # Some vocabularies hold a special token's string as an ordinary piece too. Such a text loses it.
        return [
            found if self._special.isdisjoint(found) else [one for one in found if one not in self._special]
            for found in encoded
        ]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        if not self.tokenizer.is_fast:
            found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
            return found
        # Straight to the Rust tokenizer: the wrapper's conversions take as long as the tokenization.
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        return [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without special tokens and without what the tokenizer adds before every text."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        # Of half a prefix nothing is text yet.
        return "" if self.text_prefix.startswith(text) else text.removeprefix(self.text_prefix)

    @cached_property
    def text_prefix(self) -> str:
        """What a text begins with once it was tokenized and decoded, such as a space."""
        for text in KNOWN_CHARACTERS:
            decoded = self.tokenizer.decode(self.ids([text])[0], skip_special_tokens=True)
            if text in decoded:
                return str(decoded).partition(text)[0]
        return ""

    def marker(self, label: Label | Verdict | None) -> list[int]:
        """Return the ids of a verdict's marker or of a label, or the line break that replaces a dropped marker."""
        if label is None:
            return self.line_break
        if not isinstance(label, Label):
            return [self.marker_id(label)]
        if label.words not in self._words:
            self._words[label.words] = self.ids([label.words])[0] if label.words else []
        return [*map(self.marker_id, label.markers), *self._words[label.words]]

    def marker_id(self, verdict: Verdict) -> int:
        return self.accepted_id if verdict == "accepted" else self.rejected_id

    @cached_property
    def line_break(self) -> list[int]:
        """The ids of a line break; raises PipelineError if the tokenizer has no token for it."""
        if ids := self.ids(["\n"])[0]:
            return ids
        raise PipelineError(
            "The base model's tokenizer has no token for a line break, which replaces a marker (`dropped_markers`,"
            " `markers` stripped); keep all markers or choose another base model."
        )

    @property
    def marker_ids(self) -> list[int]:
        return [self.background_id, self.rejected_id, self.accepted_id]

    @property
    def control_ids(self) -> list[int]:
        """The ids in a turn that are no text: its marker, and the end of the text."""
        return [self.rejected_id, self.accepted_id, *self.eos_ids]


def prefix_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the ids that a tokenizer puts before every text: none, its beginning of text, or anything else.

    Raises PipelineError if a text has other ids with what is put around it than without.
    """
    changed = False
    for text in KNOWN_CHARACTERS:
        plain, full = (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (False, True))
        for start in range(len(full) - len(plain) + 1):
            if plain and full[start : start + len(plain)] == plain:
                return list(full[:start])
        changed = changed or bool(plain)
    if changed:
        raise PipelineError(
            "The base model's tokenizer tokenizes a text in another way once it adds its special tokens, so what it"
            " puts before every text is not known; choose another base model."
        )
    return []
