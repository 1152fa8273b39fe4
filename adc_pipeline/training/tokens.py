"""From a walk to token ids, such that a marker id means a verdict and nothing else.

The segments of a walk (background, turns) are known from the record's offsets. Each is tokenized by
itself as plain text, and the marker ids are put between them: no text, whatever its author typed, yields
a marker or another special token, and every token belongs to exactly one turn by construction. The price
is that no token spans the end of a segment, where a marker stands anyway. 0.8 million tokens a second on 2
cores where turns are a sentence, 2 million where they are paragraphs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.walks.markers import FORMATS, Markers, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Walks tokenized in one call: enough for the tokenizer's threads, little enough to hold.
BATCH = 512


@dataclass(frozen=True, eq=False)
class TokenizedWalk:
    """One walk: `ids` (int32, tokens) and the index of the `turn` each token belongs to (int32, tokens).

    A turn's tokens are its speaker line, its text and its marker, wherever that stands; -1 is the
    background, its marker and the beginning of the text included. The end of the text belongs to the last
    turn. Verdicts and scores are those of the turns that are there; what the arrangement left out is counted.
    """

    ids: np.ndarray
    turn: np.ndarray
    verdicts: tuple[Verdict, ...]
    scores: tuple[int, ...]
    conversation_id: str
    turns_left_out: int = 0
    markers_dropped: int = 0


class MarkerTokenizer:
    """A tokenizer whose marker ids come from our markers only, never from a text.

    Raises PipelineError where the tokenizer holds no format's markers. Of two formats the one added last
    counts: a model fine-tuned on one and prepared again for the other speaks the newer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        held = [markers for markers in FORMATS.values() if all(text in added for text in markers.strings())]
        if not held:
            raise PipelineError(
                f"The tokenizer in {tokenizer.name_or_path or 'the model folder'} has no markers; start from a"
                " folder that prepare_base_model wrote."
            )
        self.markers: Markers = max(held, key=lambda markers: added[markers.accepted])
        self.background_id: int = added[self.markers.background]
        self.rejected_id: int = added[self.markers.rejected]
        self.accepted_id: int = added[self.markers.accepted]
        bos, eos, unknown = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
        first = tokenizer("a")["input_ids"][:1]
        self.bos_ids: list[int] = first if bos is not None and first == [bos] else []
        self.eos_ids: list[int] = [] if eos is None else [eos]
        # An unknown character is content, unless the same id also ends a text, as in GPT-2.
        self._special = (set(added.values()) | set(tokenizer.all_special_ids)) - ({unknown} - {bos, eos})

    @classmethod
    def load(cls, folder: Path) -> "MarkerTokenizer":
        """The tokenizer of a model folder."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """One list of ids a text, taken as plain text; never any special id."""
        encoded: list[list[int]]
        if self.tokenizer.is_fast:
            # Straight to the Rust tokenizer: the wrapper's conversions take as long as the tokenization.
            backend = self.tokenizer.backend_tokenizer
            backend.encode_special_tokens = True
            backend.no_truncation()
            backend.no_padding()
            encoded = [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]
        else:
            encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        # Some vocabularies hold a special token's string as an ordinary piece too; it cannot be said then.
        return [
            found if self._special.isdisjoint(found) else [one for one in found if one not in self._special]
            for found in encoded
        ]

    @property
    def control_ids(self) -> list[int]:
        """Ids that stand for no text in a turn: its marker, and the end of the text."""
        return [self.rejected_id, self.accepted_id, *self.eos_ids]

    @property
    def marker_ids(self) -> list[int]:
        return [self.background_id, self.rejected_id, self.accepted_id]

    def marker_id(self, verdict: Verdict) -> int:
        return self.accepted_id if verdict == "accepted" else self.rejected_id


def encode_walks(
    tokenizer: MarkerTokenizer, walks: Iterable[Mapping[str, Any]], arranged: Arrangement | None = None
) -> Iterator[TokenizedWalk]:
    """Tokenize rows of a dataset (`text`, `turns`, `conversation_id`, `walk`), in their order, `BATCH` at a time.

    A walk is bos + background + its marker + (turn + its marker) ... + eos, bos and eos being what the
    tokenizer has of them, and the turns being `arranged`, plainly by default. A walk of which no turn is
    left is yielded without any.
    """
    arranged = arranged or Arrangement()
    (line_break,) = tokenizer.ids(["\n"])
    rows = iter(walks)
    while batch := list(islice(rows, BATCH)):
        texts: list[str] = []
        for walk in batch:
            texts += segments(walk, tokenizer.markers)
        encoded = iter(tokenizer.ids(texts))
        for walk in batch:
            ids = [*tokenizer.bos_ids, *next(encoded), tokenizer.background_id]
            lengths, kept, dropped = [len(ids)], [], 0
            for turn, verdict in zip(walk["turns"], arranged.verdicts(walk), strict=True):
                text, marker = next(encoded), [tokenizer.marker_id(verdict)]
                if arranged.rejected_left_out and verdict == "rejected":
                    continue
                before = len(ids)
                if arranged.dropped_markers and arranged.drops(
                    walk["conversation_id"], walk["walk"], turn["utterance_id"]
                ):
                    marker = line_break
                    dropped += 1
                if arranged.markers_first:
                    ids += marker + text
                else:
                    ids += text
                    ids += marker
                lengths.append(len(ids) - before)
                kept.append((turn, verdict))
            ids += tokenizer.eos_ids
            lengths[-1] += len(tokenizer.eos_ids)
            yield TokenizedWalk(
                ids=np.array(ids, dtype=np.int32),
                turn=np.repeat(np.arange(-1, len(kept), dtype=np.int32), lengths),
                verdicts=tuple(verdict for _, verdict in kept),
                scores=tuple(turn["score"] for turn, _ in kept),
                conversation_id=walk["conversation_id"],
                turns_left_out=len(walk["turns"]) - len(kept),
                markers_dropped=dropped,
            )


def segments(walk: Mapping[str, Any], markers: Markers) -> list[str]:
    """The background and each turn with its speaker line, without the markers, by the record's offsets."""
    text = walk["text"]
    starts = [turn["start"] - (0 if turn["speaker"] is None else len(turn["speaker"]) + 1) for turn in walk["turns"]]
    background = text[: starts[0] - len(markers.background)]
    return [background, *(text[start : turn["end"]] for start, turn in zip(starts, walk["turns"], strict=True))]
