"""A conversation in progress, spelt as the datasets spell a walk, and the prompt that a model gets from it.

The background is `speaker`, title and text on lines of their own; a turn is `speaker` and text. If the dataset has no
speakers, those lines are missing. Marker strings are neutralised in every text (only the format `released` keeps
them in its data, and neutralising them here loses nothing). Marker ids come from verdicts only.
"""

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.walks.markers import Markers, Verdict, neutralised

if TYPE_CHECKING:
    from adc_pipeline.training.texts.layout import Turn
    from adc_pipeline.training.texts.tokens import MarkerTokenizer

# The default speaker of a post: the first pseudonym in every conversation, and a name like any other to a model that
# was trained on names.
FIRST_SPEAKER = "user1"


def neutral(text: str, markers: Markers) -> str:
    """Return `text`, as long as before, with marker strings neutralised and a `?` for what UTF-8 cannot encode."""
    text = text.encode(errors="replace").decode()
    for marker in markers.strings():
        text = text.replace(marker, neutralised(marker))
    return text


def utterance(speaker: str | None, *lines: str) -> str:
    """Return speaker and text as they stand in a walk, without the speaker's line if `speaker` is None."""
    return "\n".join(lines if speaker is None else (speaker, *lines))


@dataclass(frozen=True)
class Conversation:
    """A background and the turns so far, each with its speaker's line and its verdict, without markers."""

    background: str
    turns: tuple[tuple[str, Verdict], ...] = ()

    @classmethod
    def about(cls, post: str, speaker: str | None, markers: Markers, title: str | None = None) -> "Conversation":
        """Start a conversation with `post`; without a `title`, the first line of the post is its title.

        Raises PipelineError if there is neither a title nor a text.
        """
        text = post.rstrip()
        if title is None:
            title, _, text = text.partition("\n")
        if not (title.strip() or text.strip()):
            raise PipelineError("The post is empty; write a title on its first line and, below it, the text.")
        return cls(neutral(utterance(speaker, title.strip(), text.strip()), markers))

    def after(self, turn: str, verdict: Verdict, markers: Markers) -> "Conversation":
        """Return the conversation with one more turn."""
        return Conversation(self.background, (*self.turns, (neutral(turn, markers), verdict)))

    def text(self, markers: Markers) -> str:
        """Return the conversation as the text of a walk."""
        return "".join(
            [self.background, markers.background, *(turn + markers.of(verdict) for turn, verdict in self.turns)]
        )


def tokenized(
    conversation: Conversation, tokenizer: "MarkerTokenizer", arranged: Arrangement
) -> "tuple[list[int], list[Turn]]":
    """Return the ids of the background, and the turns as the model's training shows them.

    A model that never saw a rejected turn gets none.
    """
    shown = [(turn, verdict) for turn, verdict in conversation.turns if not arranged.excludes(verdict)]
    background, *texts = tokenizer.ids([conversation.background, *(turn for turn, _ in shown)])
    return background, [(text, arranged.marked(verdict)) for text, (_, verdict) in zip(texts, shown, strict=True)]


def prompt_ids(conversation: Conversation, tokenizer: "MarkerTokenizer", arranged: Arrangement, room: int) -> list[int]:
    """Return at most `room` token ids, after which the model writes the next turn.

    The layout is that of the model's training: a model that writes a turn for the marker before it is asked for an
    accepted turn.
    """
    from adc_pipeline.training.texts.layout import fit, lay_out

    background, turns = tokenized(conversation, tokenizer, arranged)
    asked = arranged.marked("accepted")
    taken = len(tokenizer.marker(asked)) if arranged.markers_first else 0
    background, near = fit(tokenizer, background, turns, room - taken)
    pieces = lay_out(tokenizer, background, near, unfinished=([], asked), markers_first=arranged.markers_first)
    return [*chain.from_iterable(pieces)]
