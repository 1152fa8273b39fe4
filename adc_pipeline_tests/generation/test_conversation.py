"""A conversation is spelt, laid out and cut as the datasets, the training and the evaluation have it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.scoring.likelihoods import Query, encoded
from adc_pipeline.generation.conversation import Conversation, prompt_ids, utterance
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.layout import encode_walks
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS, Verdict
from adc_pipeline_tests.training.walks import walk

MARKERS = FORMATS["default"]
ARRANGEMENTS = {
    "plain": Arrangement(),
    "filtering": Arrangement(exclude_rejected=True),
    "conditional": Arrangement(markers_first=True),
}
# What people type, markers among it.
TYPED = st.lists(
    st.sampled_from([*MARKERS.strings(), "<", "rejected>", "word ", "é", "\n", "🜂", "<|endoftext|>", "<accep", "ted>"]),
    max_size=8,
).map("".join)
SAID = TYPED.map(lambda text: f"a{text}b")
VERDICTS: st.SearchStrategy[Verdict] = st.sampled_from(["accepted", "rejected"])
TURNS = st.lists(st.tuples(st.sampled_from(["ann", "bo"]), SAID, VERDICTS), max_size=5)


def conversation(post: str, turns: list[tuple[str, str, Verdict]]) -> Conversation:
    made = Conversation.about(post, "op", MARKERS, title="A title")
    for speaker, text, verdict in turns:
        made = made.after(utterance(speaker, text), verdict, MARKERS)
    return made


def clean(text: str) -> str:
    for marker in MARKERS.strings():
        text = text.replace(marker, f"‹{marker[1:-1]}›")
    return text


@pytest.mark.parametrize("arranged", ARRANGEMENTS)
@given(post=SAID, turns=TURNS.filter(bool))
@settings(max_examples=60, deadline=None)
def test_it_is_spelt_and_tokenized_like_a_walk(
    tokenizer: MarkerTokenizer, arranged: str, post: str, turns: list[tuple[str, str, Verdict]]
) -> None:
    made = conversation(post, turns)
    record = walk(f"op\nA title\n{clean(post)}", [(speaker, clean(text), verdict) for speaker, text, verdict in turns])
    assert made.text(MARKERS) == record["text"]
    (expected,) = encode_walks(tokenizer, [record], ARRANGEMENTS[arranged])
    asked = [tokenizer.accepted_id] if arranged == "conditional" else []
    prompt = prompt_ids(made, tokenizer, ARRANGEMENTS[arranged], 100_000)
    assert prompt == expected.ids.tolist()[: -len(tokenizer.eos_ids)] + asked


@given(post=SAID, turns=TURNS)
@settings(max_examples=60, deadline=None)
def test_no_text_forges_a_marker(tokenizer: MarkerTokenizer, post: str, turns: list[tuple[str, str, Verdict]]) -> None:
    ids = prompt_ids(conversation(post, turns), tokenizer, Arrangement(), 100_000)
    markers = {tokenizer.background_id, tokenizer.accepted_id, tokenizer.rejected_id, *tokenizer.eos_ids}
    expected = [tokenizer.background_id, *(tokenizer.marker_id(verdict) for *_, verdict in turns)]
    assert [id for id in ids if id in markers] == expected
    text = conversation(post, turns).text(MARKERS)
    assert sum(text.count(marker) for marker in MARKERS.strings()) == 1 + len(turns)


@given(post=SAID, turns=TURNS, room=st.integers(8, 120))
@settings(max_examples=100, deadline=None)
def test_a_long_one_is_cut_as_the_evaluation_cuts_it(
    tokenizer: MarkerTokenizer, post: str, turns: list[tuple[str, str, Verdict]], room: int
) -> None:
    made = conversation(post, turns)
    what = encoded([Query(made.background, made.turns, "")], tokenizer, room)
    expected = [int(id) for piece in what.paths[0] for id in what.pieces[piece]]
    assert prompt_ids(made, tokenizer, Arrangement(), room) == expected
    assert len(prompt_ids(made, tokenizer, Arrangement(markers_first=True), room + 1)) <= room + 1


@pytest.mark.parametrize(
    ("post", "title", "background"),
    [
        ("A title\nand\n\na text\n", None, "op\nA title\nand\n\na text"),
        ("Only a title", None, "op\nOnly a title\n"),
        ("\nNo title", None, "op\n\nNo title"),
        ("All\ntext", "A title", "op\nA title\nAll\ntext"),
        ("", "Only a title", "op\nOnly a title\n"),
    ],
)
def test_the_first_line_of_a_post_is_its_title(post: str, title: str | None, background: str) -> None:
    assert Conversation.about(post, "op", MARKERS, title).background == background
    assert Conversation.about(post, None, MARKERS, title).background == background.removeprefix("op\n")


def test_an_empty_post_is_refused() -> None:
    with pytest.raises(PipelineError, match="post is empty"):
        Conversation.about(" \n ", "op", MARKERS)
