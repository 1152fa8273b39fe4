"""A conversation in progress, spelt as the datasets spell a walk, and what a model is given of it.

The background is `speaker`, title and text on lines of their own, a turn is `speaker` and text; where the
dataset knows no speakers, those lines are missing. Whoever typed a text, marker strings in it are
neutralised (the format `released` alone leaves them in its data; nothing is lost by not doing so here), and
marker ids come from verdicts only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.walks.markers import Markers, Verdict, neutralised

if TYPE_CHECKING:
    from adc_pipeline.training.tokens import MarkerTokenizer


def neutral(text: str, markers: Markers) -> str:
    """`text` with its marker strings neutralised, as long as before; what no encoding knows becomes a `?`."""
    text = text.encode(errors="replace").decode()
    for marker in markers.strings():
        text = text.replace(marker, neutralised(marker))
    return text


def utterance(speaker: str | None, *lines: str) -> str:
    """Speaker and text as they stand in a walk; without the speaker's line where that is None."""
    return "\n".join(lines if speaker is None else (speaker, *lines))


@dataclass(frozen=True)
class Conversation:
    """A background and the turns so far, each with its speaker's line and its verdict, without markers."""

    background: str
    turns: tuple[tuple[str, Verdict], ...] = ()

    @classmethod
    def about(cls, post: str, speaker: str | None, markers: Markers, title: str | None = None) -> "Conversation":
        """The conversation that `post` begins; without a `title`, the first line of the post is its title.

        Raises PipelineError where there is neither a title nor a text.
        """
        text = post.rstrip()
        if title is None:
            title, _, text = text.partition("\n")
        if not (title.strip() or text.strip()):
            raise PipelineError("The post is empty; write a title on its first line and, below it, the text.")
        return cls(neutral(utterance(speaker, title.strip(), text.strip()), markers))

    def after(self, turn: str, verdict: Verdict, markers: Markers) -> "Conversation":
        """The conversation with one more turn."""
        return Conversation(self.background, (*self.turns, (neutral(turn, markers), verdict)))

    def text(self, markers: Markers) -> str:
        """The whole as the text of a walk."""
        return "".join(
            [self.background, markers.background, *(turn + markers.of(verdict) for turn, verdict in self.turns)]
        )


def fitted(background: int, turns: Sequence[int], room: int) -> tuple[int, int]:
    """How much of a long context stays: tokens of the background, and the number of the first turn that does.

    The sizes are in tokens, markers included. The start of the background and the nearest turns stay: half of
    the room for the background, or what the turns leave of it.
    """
    kept = min(background, max(room // 2, room - sum(turns)))
    left, nearest = room - kept, len(turns)
    while nearest and turns[nearest - 1] <= left:
        nearest -= 1
        left -= turns[nearest]
    return min(background, kept + left), nearest


def prompt_ids(conversation: Conversation, tokenizer: "MarkerTokenizer", arranged: Arrangement, room: int) -> list[int]:
    """At most `room` token ids after which the model is to write the next turn.

    Laid out as the model's objective had it: a model that has never met a rejected turn is shown none, and
    one that writes a turn for the marker before it is asked for an accepted one.
    """
    turns = [
        (turn, verdict)
        for turn, verdict in conversation.turns
        if not (arranged.rejected_left_out and verdict == "rejected")
    ]
    background, *texts = tokenizer.ids([conversation.background, *(turn for turn, _ in turns)])
    background = [*tokenizer.bos_ids, *background]
    asked = [tokenizer.accepted_id] if arranged.markers_first else []
    kept, nearest = fitted(len(background) + 1, [len(text) + 1 for text in texts], room - len(asked))
    ids = [*background[: kept - 1], tokenizer.background_id]
    for text, (_, verdict) in zip(texts[nearest:], turns[nearest:], strict=True):
        marker = [tokenizer.marker_id(verdict)]
        ids += marker + text if arranged.markers_first else text + marker
    return ids + asked
