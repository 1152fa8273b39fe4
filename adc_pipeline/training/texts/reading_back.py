"""Ask a tokenizer whether it reads back what it was given, rather than assume it: turns, marker ids, whole texts."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.texts.tokens import KNOWN_CHARACTERS, MarkerTokenizer

# Tokenized several times, to see whether chance takes part in it. Even a dropout of 0.01 changes one of these.
TRIED_WORDS = ("the", "conversation", "goes", "on", "and", "nobody", "understands", "what", "happened", "before") * 10
TRIES = 20


def check_reads_back(tokenizer: MarkerTokenizer, named: str) -> None:
    """Raise PipelineError if a turn loses its line break or its spaces once it was tokenized and decoded.

    The line break separates a turn's speaker from its text, and a reply may only end behind it. `named` is the subject
    of the error's sentence.
    """
    known = next((text for text in KNOWN_CHARACTERS if text in tokenizer.decode(tokenizer.ids([text])[0])), "a")
    turn = f"{known}\n{known} {known}"
    decoded = tokenizer.decode(tokenizer.ids([turn])[0])
    speaker, line_break, text = decoded.partition("\n")
    if not (line_break and speaker.strip() == known and text.strip().startswith(known)):
        raise PipelineError(
            f"{named} has a tokenizer that loses line breaks: it reads {turn!r} as {decoded!r}, in which speaker and"
            " text cannot be separated; choose another base model."
        )
    if len(text.split()) == 1:
        raise PipelineError(
            f"{named} has a tokenizer that loses spaces: it reads {turn!r} as {decoded!r}, in which words cannot be"
            " separated; choose another base model."
        )
    # BPE dropout and SentencePiece's sampling are kept in a tokenizer's files.
    words = " ".join(TRIED_WORDS)
    if any(again != found for found in tokenizer.ids([words]) for again in tokenizer.ids([words] * TRIES)):
        raise PipelineError(
            f"{named} has a tokenizer that splits one text in several ways at random, so that a model would be asked"
            " about other tokens than it was trained on; remove the `dropout` from its tokenizer.json, or choose"
            " another base model."
        )


def check_loads_again(tokenizer: MarkerTokenizer, folder: Path, named: str) -> None:
    """Raise PipelineError if a tokenizer has other ids once it was saved in `folder` and loaded again.

    A vocabulary with gaps gives its added tokens other ids by then, so that a marker has the id of another token.
    """
    try:
        again = MarkerTokenizer.load(folder)
        texts = [" ".join(TRIED_WORDS), *KNOWN_CHARACTERS]
        same = again.marker_ids == tokenizer.marker_ids and again.prefix_ids == tokenizer.prefix_ids
        same = same and again.eos_ids == tokenizer.eos_ids and again.ids(texts) == tokenizer.ids(texts)
    except PipelineError:
        same = False
    if not same:
        raise PipelineError(
            f"{named} has a tokenizer that is another once it was saved and loaded again, so that tokens would get"
            " the ids of others; choose another base model."
        )


@dataclass(frozen=True)
class ReadBack:
    """What is left of some texts once they were tokenized and decoded.

    `missing` counts characters of `characters` that a tokenizer does not read back, `commonest` has some of them.
    `changed` counts the `texts` that lack no character and are another text still, in what `changes` names.
    """

    missing: int
    commonest: tuple[str, ...]
    characters: int
    changed: int
    changes: tuple[str, ...]
    texts: int

    @property
    def missing_share(self) -> float:
        return self.missing / max(1, self.characters)

    @property
    def changed_share(self) -> float:
        return self.changed / max(1, self.texts)


def read_back(tokenizer: MarkerTokenizer, texts: Sequence[str]) -> ReadBack:
    """Compare texts with what is decoded of their tokens, apart from spaces at their ends."""
    expected, missing, changes, changed = Counter[str](), Counter[str](), Counter[str](), 0
    for text, ids in zip(texts, tokenizer.ids(texts), strict=True):
        decoded = tokenizer.decode(ids)
        characters = Counter(plain_form(text))
        lost = characters - Counter(plain_form(decoded))
        expected += characters
        missing += lost
        if not lost and (found := differences(text.strip(), decoded.strip())):
            changes.update(found)
            changed += 1
    most = tuple(character for character, _ in missing.most_common(5))
    named = tuple(change for change, _ in changes.most_common())
    return ReadBack(missing.total(), most, expected.total(), changed, named, len(texts))


def differences(text: str, other: str) -> list[str]:
    """Return in what a text with the same characters in `plain_form` is another."""
    if text == other:
        return []
    found = [] if text.count("\n") == other.count("\n") else ["line breaks"]
    letters, others = "".join(text.split()), "".join(other.split())
    if letters != others:
        found.append("capitals" if letters.lower() == others.lower() else "forms of characters")
    spaces, left = ([one for one in each if one.isspace() and one != "\n"] for each in (text, other))
    return [*found, "spaces"] if spaces != left or not found else found


def plain_form(text: str) -> str:
    """Return a text in compatibility form, in small letters, without spaces and combining marks."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in folded if not one.isspace() and not unicodedata.combining(one))
