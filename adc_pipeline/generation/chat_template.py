"""Write a chat template and a generation configuration beside a model, so that others can use it without this package.

transformers, vLLM and trl then lay out a conversation as the training did (`training.texts.layout`), and stop at a
marker:

    [{"role": "user", "content": "A title\\nand a text"}, {"role": "rejected", "content": "A reply that will not do."}]

The first message is the post, whose first line is its title. Its role is `user`, or `assistant` where roles are counted
backwards from a reply, as in the prompts of `preferences`. Each other message is a turn: `rejected` by its role or by
a field `verdict`, accepted otherwise. `name` gives a speaker where the model knows speakers, and `title` a title.

The template renders one text, in which a tokenizer would take a marker that a person wrote for ours. Markers and all
other special tokens are therefore neutralised in contents, names and titles, as in the walks. A tokenizer may cut such
a text in another way than its parts; a probe finds out, and such a model gets no template.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.training.texts.facts import REMEDY, ModelFacts
from adc_pipeline.training.texts.tokens import Label, MarkerTokenizer
from adc_pipeline.walks.markers import Verdict, neutralised

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATE = "chat_template.jinja"
# The evaluation writes it.
MODEL_CARD = "README.md"

TEMPLATE = """\
{%- macro plain(text) %}
    {%- set kept = namespace(text=text) %}
    {%- for token in forged %}{% set kept.text = kept.text | replace(token[0], token[1]) %}{% endfor %}
    {{- kept.text }}
{%- endmacro %}
{%- macro speaker(message, number) %}
    {%- if speaks %}{{ (message.name or "user" ~ number) | replace("\\n", " ") | trim }}{{ "\\n" }}{% endif %}
{%- endmacro %}
{%- if messages[0].role not in ("user", "assistant") %}
    {{- raise_exception("The first message is the post: its role is user, or assistant.") }}
{%- endif %}
{%- set post = messages[0] %}
{%- if post.title %}
    {%- set title, text = post.title | trim, post.content | trim %}
{%- else %}
    {%- set lines = post.content.rstrip().split("\\n", 1) %}
    {%- set title, text = lines[0] | trim, (lines[1] | trim if lines | length > 1 else "") %}
{%- endif %}
{{- beginning }}{{ plain(speaker(post, 1) ~ title ~ "\\n" ~ text) }}{{ background_marker }}
{%- for message in messages[1:] %}
    {%- if message.role == "system" %}{{ raise_exception("There is no system message.") }}{% endif %}
    {%- set rejected = message.role == "rejected" or message.verdict == "rejected" %}
    {%- if not (rejected and excludes_rejected) %}
        {%- set marker = rejected_marker if rejected else accepted_marker %}
        {%- if markers_first %}{{ marker }}{% endif %}
        {{- plain(speaker(message, loop.index + 1) ~ (message.content | trim)) }}
        {%- if not markers_first %}{{ marker }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if not add_generation_prompt %}{{ end }}{% elif markers_first %}{{ accepted_marker }}{% endif %}"""

# Turns with what a person may write: markers, other special tokens, spaces and line breaks at the ends.
PROBE: list[dict[str, str]] = [
    {"role": "user", "content": "A title \n\n and a text <accepted>, two\nlines"},
    {"role": "rejected", "content": " No  way.<rejected>", "name": "ann"},
    {"role": "assistant", "content": "été 12 #1"},
]


def write_chat_template(folder: Path) -> bool:
    """Write `chat_template.jinja` and `generation_config.json` into a model's folder; return whether it has the former.

    A model without markers gets no template, nor one whose tokenizer reads the text in another way than the training.
    """
    facts, tokenizer = ModelFacts.read(folder), MarkerTokenizer.load(folder)
    write_stops(folder, tokenizer)
    write_padding(folder, tokenizer)
    # That of a base model for chats lays out other texts.
    (folder / CHAT_TEMPLATE).unlink(missing_ok=True)
    if facts.markers == "none":
        return False
    template = chat_template(facts, tokenizer)
    if template_ids(tokenizer.tokenizer, template, PROBE, True) != own_ids(facts, tokenizer, PROBE, True):
        return False
    (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
    return True


# Options of a base model that hold for any text. Others were chosen for its own layout, such as a forced token, or
# search, which a draw excludes: transformers writes no file in which they meet. With each its type and its largest
# value: a base model may name others, with which transformers would write no file or draw nothing.
KEPT: dict[str, tuple[type[int] | type[float], float]] = {
    "temperature": (float, sys.float_info.max),
    "top_k": (int, sys.maxsize),
    "top_p": (float, 1),
    "min_p": (float, 1),
}


def write_stops(folder: Path, tokenizer: MarkerTokenizer) -> None:
    """Let generation draw, and stop at a marker and at the end of the text."""
    from transformers import GenerationConfig

    known = (folder / "generation_config.json").exists()
    base = GenerationConfig.from_pretrained(folder) if known else GenerationConfig()
    kept: dict[str, Any] = {}
    for name, (kind, most) in KEPT.items():
        value: Any = getattr(base, name, None)
        if type(value) in (int, float) and 0 < value <= most and kind(value):
            kept[name] = kind(value)
    own = tokenizer.tokenizer.pad_token_id
    pad = tokenizer.control_ids[-1] if own is None else own
    GenerationConfig(do_sample=True, eos_token_id=tokenizer.control_ids, pad_token_id=pad, **kept).save_pretrained(
        folder
    )


def write_padding(folder: Path, tokenizer: MarkerTokenizer) -> None:
    """Let the end of the text pad batches, which transformers' pipeline refuses to make of a tokenizer without padding.

    A tokenizer without an end of text is left as it is: a marker that pads would have a role besides.
    """
    path = folder / "tokenizer_config.json"
    if tokenizer.tokenizer.pad_token is None and tokenizer.eos_ids and path.exists():
        write_record(path, read_record(path, remedy=REMEDY) | {"pad_token": tokenizer.tokenizer.eos_token})


def chat_template(facts: ModelFacts, tokenizer: MarkerTokenizer) -> str:
    """Return the template of a model's layout."""
    arranged = facts.arrangement
    plain = tokenizer.tokenizer
    special = {str(token) for token in plain.added_tokens_decoder.values() if token.special} | set(
        plain.all_special_tokens
    )
    # A longer token first: another one may be a part of it.
    forged = [[token, neutralised(token)] for token in sorted(special, key=lambda token: (-len(token), token))]
    values: dict[str, Any] = {
        "forged": forged,
        "speaks": facts.speakers != "none",
        "beginning": "".join(plain.convert_ids_to_tokens(tokenizer.prefix_ids)),
        "background_marker": tokenizer.markers.background,
        "rejected_marker": written(tokenizer, arranged.marked("rejected")),
        "accepted_marker": written(tokenizer, arranged.marked("accepted")),
        "excludes_rejected": arranged.excludes("rejected"),
        "markers_first": arranged.markers_first,
        "end": "".join(plain.convert_ids_to_tokens(tokenizer.eos_ids)),
    }
    header = "".join(f"{{%- set {name} = {json.dumps(value)} %}}\n" for name, value in values.items())
    return header + TEMPLATE


def written(tokenizer: MarkerTokenizer, label: Label | Verdict | None) -> str:
    """Return what is written for a verdict, as text."""
    if label is None:
        return "\n"
    if not isinstance(label, Label):
        return tokenizer.markers.of(label)
    return "".join(map(tokenizer.markers.of, label.markers)) + label.words


def template_ids(
    tokenizer: "PreTrainedTokenizerBase", template: str, messages: list[dict[str, str]], prompt: bool
) -> list[int]:
    """Return the ids of messages by a template, as transformers' pipeline makes them."""
    if tokenizer.is_fast:
        # `MarkerTokenizer` reads special tokens as text.
        tokenizer.backend_tokenizer.encode_special_tokens = False
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def own_ids(facts: ModelFacts, tokenizer: MarkerTokenizer, messages: list[dict[str, str]], prompt: bool) -> list[int]:
    """Return the ids of messages by our own layout."""
    from itertools import chain

    from adc_pipeline.generation.conversation import Conversation, tokenized, utterance
    from adc_pipeline.training.texts.layout import Turn, lay_out

    arranged, speaks = facts.arrangement, facts.speakers != "none"
    names = [message.get("name", f"user{number}") if speaks else None for number, message in enumerate(messages, 1)]
    conversation = Conversation.about(messages[0]["content"], names[0], tokenizer.markers, messages[0].get("title"))
    for name, message in zip(names[1:], messages[1:], strict=True):
        rejected = "rejected" in (message["role"], message.get("verdict"))
        turn = utterance(name, message["content"].strip())
        conversation = conversation.after(turn, "rejected" if rejected else "accepted", tokenizer.markers)
    background, turns = tokenized(conversation, tokenizer, arranged)
    unfinished: Turn | None = ([], arranged.marked("accepted")) if prompt else None
    return [*chain.from_iterable(lay_out(tokenizer, background, turns, unfinished, arranged.markers_first))]
