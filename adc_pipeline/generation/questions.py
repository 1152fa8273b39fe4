"""Read a question to a model: a post with the turns below it, from a line of `adc score` or a row of a request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.terminal import printable
from adc_pipeline.generation.conversation import FIRST_SPEAKER

if TYPE_CHECKING:
    from adc_pipeline.generation.conversation import Conversation
    from adc_pipeline.generation.replier import Replier

FIELDS = ("post", "title", "speaker", "turns", "rejected", "candidates")
FIELDS_OF_A_TURN = ("text", "verdict", "speaker")
# From which on a name is a misspelt one: `reject` is 0.86 of `rejected`; `posted`, a name of one's own, 0.8 of `post`.
MISSPELT = 0.82


def refuse_misspelt(names: Iterable[object], known: Sequence[str]) -> None:
    """Raise PipelineError for a name that is one of the `known` ones misspelt, whose value would be ignored.

    Other names are of a person's own, and so is a known one with another word, such as `speaker_id`.
    """
    for name in names:
        own = name in known or any(f"{each}_" in str(name) for each in known)
        if not own and (meant := did_you_mean(name, known, MISSPELT)):
            raise PipelineError(f"`{printable(str(name))}` is not known{meant}: correct its name.")


def conversation_of(replier: "Replier", asked: Mapping[str, Any]) -> "Conversation":
    """Return the conversation of a question: `post`, `title`, `speaker`, then `turns`, then `rejected` replies.

    Only a field that is missing or null is not given. Raises PipelineError for a field of another type.
    """
    refuse_misspelt(asked, FIELDS)
    conversation = replier.about(
        text_of(asked, "post"), text_of(asked, "speaker", FIRST_SPEAKER), given_text(asked, "title")
    )
    for turn in items_of(asked, "turns", ()):
        verdict = "accepted" if turn.get("verdict") is None else turn["verdict"]
        if verdict not in ("accepted", "rejected"):
            raise PipelineError(f"the verdict of a turn is {verdict!r:.40}: use accepted or rejected.")
        conversation = with_turn(replier, conversation, turn, verdict)
    for turn in items_of(asked, "rejected", ()):
        conversation = with_turn(replier, conversation, turn, "rejected")
    return conversation


def with_turn(
    replier: "Replier", conversation: "Conversation", turn: Mapping[str, Any], verdict: Any
) -> "Conversation":
    """Return the conversation with a turn of a question, an object with `text` and perhaps a `speaker`."""
    refuse_misspelt(turn, FIELDS_OF_A_TURN)
    return replier.with_turn(conversation, text_of(turn, "text"), verdict, given_text(turn, "speaker"))


def given_text(record: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a record, or None if it is not given."""
    return None if record.get(name) is None else text_of(record, name)


def text_of(record: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text of a record, with lines as in the datasets; raise PipelineError if it is missing or no text."""
    value = record.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise PipelineError(f"`{name}` is missing or is no text: give a text.")
    return value.replace("\r\n", "\n")


def items_of(record: Mapping[str, Any], name: str, default: Any = None) -> list[Mapping[str, Any]]:
    """Return a list of objects with a `text`; a text stands for such an object."""
    value = record.get(name)
    value = default if value is None else value
    if not isinstance(value, list | tuple) or (default is None and not value):
        raise PipelineError(f"`{name}` is missing, empty or no list: give a list of texts.")
    items = [{"text": each} if isinstance(each, str) else each for each in value]
    if not all(isinstance(each, Mapping) for each in items):
        raise PipelineError(f"`{name}` holds something else than texts: give texts, or objects with a text.")
    return items
