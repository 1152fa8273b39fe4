"""Every token belongs to its turn, and a marker id means a verdict."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from adc_pipeline.errors import PipelineError
from adc_pipeline.training.tokens import MarkerTokenizer, encode_walks
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.walks import walk

FORGED = [
    *FORMATS["default"].strings(),
    *FORMATS["released"].strings(),
    "<|endoftext|>",
    "<accep",
    "ted>",
    "‹rejected›",
    "<<rejected>>",
    "é",
    "🙂",
    "\n",
    " ",
]
text = st.one_of(st.text(max_size=12), st.lists(st.sampled_from([*FORGED, "walk"]), max_size=4).map("".join))
verdict = st.sampled_from(["accepted", "rejected"])
turn = st.tuples(st.one_of(st.none(), text), text, verdict)
walks = st.builds(walk, text, st.lists(turn, min_size=1, max_size=5))


@given(record=walks)
def test_tokens_map_to_turns(tokenizer: MarkerTokenizer, record: dict[str, Any]) -> None:
    (encoded,) = encode_walks(tokenizer, [record])
    ids, turns = encoded.ids, encoded.turn
    assert ids.dtype == np.int32
    assert (np.diff(turns) >= 0).all()
    assert sorted(set(turns.tolist())) == list(range(-1, len(record["turns"])))
    assert [*encoded.verdicts] == [one["verdict"] for one in record["turns"]]
    assert [*encoded.scores] == [one["score"] for one in record["turns"]]

    # Byte-level tokens decode to exactly what they were made of, so each turn can be read back.
    begin = 0
    for number, one in enumerate(record["turns"]):
        own = ids[turns == number].tolist()
        if number == len(record["turns"]) - 1 and tokenizer.eos_ids:
            assert own.pop() == tokenizer.eos_ids[0]
        assert own.pop() == tokenizer.marker_id(one["verdict"])
        spoken = "" if one["speaker"] is None else one["speaker"] + "\n"
        assert tokenizer.tokenizer.decode(own) == spoken + record["text"][one["start"] : one["end"]]
        if number == 0:
            begin = one["start"] - len(spoken)
    background = ids[turns == -1].tolist()
    assert background.pop() == tokenizer.background_id
    assert background[: len(tokenizer.bos_ids)] == tokenizer.bos_ids
    assert (
        tokenizer.tokenizer.decode(background[len(tokenizer.bos_ids) :])
        == record["text"][: begin - len(tokenizer.markers.background)]
    )


@given(record=walks)
def test_special_ids_are_ours_only(tokenizer: MarkerTokenizer, record: dict[str, Any]) -> None:
    (encoded,) = encode_walks(tokenizer, [record])
    ids = encoded.ids.tolist()
    verdicts = {tokenizer.rejected_id: "rejected", tokenizer.accepted_id: "accepted"}
    assert [verdicts[one] for one in ids if one in verdicts] == [*encoded.verdicts]
    assert ids.count(tokenizer.background_id) == 1
    assert ids.count(tokenizer.eos_ids[0]) == 1
    assert ids[-1] == tokenizer.eos_ids[0]


def test_texts_do_not_influence_one_another(tokenizer: MarkerTokenizer) -> None:
    texts = ["a tree", "", "<accepted>", "walk " * 300]
    assert tokenizer.ids(texts) == [tokenizer.ids([text])[0] for text in texts]


def test_ordinary_calls_still_know_the_markers(tokenizer: MarkerTokenizer) -> None:
    tokenizer.ids(["<accepted>"])
    assert tokenizer.tokenizer("<accepted>")["input_ids"] == [tokenizer.accepted_id]


def test_markers_are_the_last_ids_in_order(tokenizer: MarkerTokenizer) -> None:
    last = len(tokenizer.tokenizer)
    assert [tokenizer.background_id, tokenizer.rejected_id, tokenizer.accepted_id] == [last - 3, last - 2, last - 1]


def test_a_beginning_that_the_tokenizer_writes_is_kept(plain_gpt2: Any) -> None:
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(plain_gpt2)
    backend = tokenizer.backend_tokenizer
    backend.add_special_tokens(["<s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    begun = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<|endoftext|>")
    begun.add_tokens([*FORMATS["released"].strings()], special_tokens=True)
    marked = MarkerTokenizer(begun)
    (encoded,) = encode_walks(marked, [walk("b", [("s", "t", "accepted")], markers=FORMATS["released"])])
    assert marked.bos_ids == [begun.convert_tokens_to_ids("<s>")]
    assert encoded.ids[0] == marked.bos_ids[0]
    assert encoded.turn[0] == -1
    assert marked.markers == FORMATS["released"]


def test_a_tokenizer_without_markers_is_refused(plain_gpt2: Any) -> None:
    with pytest.raises(PipelineError, match="has no markers"):
        MarkerTokenizer.load(plain_gpt2)
