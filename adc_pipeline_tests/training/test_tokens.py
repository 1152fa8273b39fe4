"""Every token belongs to its turn, and a marker id means a verdict, whatever a user typed. 5 s of CPU."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.layout import TokenizedWalk, encode_walks
from adc_pipeline.training.texts.tokenizer import add_markers, train_tokenizer
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.markers import FORMATS, FormatName
from adc_pipeline.walks.rendering import create_rendered
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline_tests.stages import utterance_records
from adc_pipeline_tests.training.walks import WORDS, walk
from adc_pipeline_tests.trees import NASTY_TEXTS, Corpus, Row

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
    group, groups = 0, []
    for one in record["turns"]:
        groups.append(group)
        if one["verdict"] == "accepted":
            group += 1
    assert [*encoded.groups] == groups

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
    assert background[: len(tokenizer.prefix_ids)] == tokenizer.prefix_ids
    assert (
        tokenizer.tokenizer.decode(background[len(tokenizer.prefix_ids) :])
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


@pytest.mark.fast_first
@given(record=walks)
def test_filtered_walks_are_as_if_nobody_had_said_the_rejected(
    tokenizer: MarkerTokenizer, record: dict[str, Any]
) -> None:
    (whole,) = encode_walks(tokenizer, [record])
    (encoded,) = encode_walks(tokenizer, [record], Arrangement(exclude_rejected=True))
    stays = [number for number, verdict in enumerate(whole.verdicts) if verdict == "accepted"]
    assert [*encoded.verdicts] == ["accepted"] * len(stays)
    assert [*encoded.groups] == [whole.groups[number] for number in stays]
    assert [*encoded.scores] == [whole.scores[number] for number in stays]
    assert encoded.turns_left_out == len(record["turns"]) - len(stays)
    ends = len(tokenizer.eos_ids)
    kept = np.isin(whole.turn, [-1, *stays])
    kept[len(kept) - ends :] = True
    assert encoded.ids.tolist() == whole.ids[kept].tolist()
    of_turn = whole.turn[: len(kept) - ends][kept[: len(kept) - ends]]
    assert encoded.turn[: len(of_turn)].tolist() == [-1 if one < 0 else stays.index(one) for one in of_turn]
    assert tokenizer.rejected_id not in encoded.ids


@given(record=walks, share=st.sampled_from([0.0, 0.5, 1.0]))
def test_conditional_walks_have_the_marker_first(
    tokenizer: MarkerTokenizer, record: dict[str, Any], share: float
) -> None:
    (plain,) = encode_walks(tokenizer, [record])
    arranged = Arrangement(markers_first=True, dropped_markers=share)
    (encoded,) = encode_walks(tokenizer, [record], arranged)
    (line_break,) = tokenizer.ids(["\n"])
    ends = len(tokenizer.eos_ids)
    assert encoded.ids[encoded.turn == -1].tolist() == plain.ids[plain.turn == -1].tolist()
    dropped = 0
    for number, one in enumerate(record["turns"]):
        last = ends if number == len(record["turns"]) - 1 else 0
        then, now = (walk.ids[walk.turn == number].tolist() for walk in (plain, encoded))
        end = then[len(then) - last :]
        *text, marker = then[: len(then) - last]
        if arranged.drops(record["conversation_id"], record["walk"], one["utterance_id"]):
            assert now == [*line_break, *text, *end]
            dropped += 1
        else:
            assert now == [marker, *text, *end]
    assert encoded.markers_dropped == dropped
    assert share not in (0.0, 1.0) or dropped == share * len(record["turns"])
    assert encoded.verdicts == plain.verdicts


@given(record=walks)
def test_stripped_walks_have_line_breaks_for_markers(tokenizer: MarkerTokenizer, record: dict[str, Any]) -> None:
    (plain,) = encode_walks(tokenizer, [record])
    (encoded,) = encode_walks(tokenizer, [record], Arrangement(dropped_markers=1.0))
    (line_break,) = tokenizer.ids(["\n"])
    spelt = {tokenizer.rejected_id: line_break, tokenizer.accepted_id: line_break}
    expected = [one for token in plain.ids.tolist() for one in spelt.get(token, [token])]
    assert encoded.ids.tolist() == expected
    assert encoded.verdicts == plain.verdicts


@given(record=walks, seed=st.integers(0, 3))
def test_shuffled_verdicts_are_those_of_the_walk(tokenizer: MarkerTokenizer, record: dict[str, Any], seed: int) -> None:
    (plain,) = encode_walks(tokenizer, [record])
    (encoded,) = encode_walks(tokenizer, [record], Arrangement(verdicts_shuffled=True, seed=seed))
    markers = [tokenizer.rejected_id, tokenizer.accepted_id]
    assert sorted(encoded.verdicts) == sorted(plain.verdicts)
    # A permutation decides what the markers tell, not whose sibling a turn is.
    assert encoded.groups == plain.groups
    assert encoded.ids[~np.isin(encoded.ids, markers)].tolist() == plain.ids[~np.isin(plain.ids, markers)].tolist()
    written = ["rejected" if one == markers[0] else "accepted" for one in encoded.ids if one in markers]
    assert written == [*encoded.verdicts]


def test_shuffled_verdicts_know_nothing_of_their_turns() -> None:
    turns = [(None, "text", "accepted" if number % 2 else "rejected") for number in range(6)]
    arranged = Arrangement(verdicts_shuffled=True)
    found = [arranged.verdicts(walk("b", turns, f"c{number}")) for number in range(2000)]
    shares = np.mean([[one == "accepted" for one in verdicts] for verdicts in found], axis=0)
    assert shares == pytest.approx(np.full(6, 0.5), abs=0.05)
    assert found != [Arrangement(verdicts_shuffled=True, seed=1).verdicts(walk("b", turns, "c0"))] * 2000


def test_the_share_of_markers_that_is_dropped() -> None:
    def dropped(share: float, seed: int) -> set[tuple[int, int]]:
        arranged = Arrangement(markers_first=True, dropped_markers=share, seed=seed)
        return {(walk, turn) for walk in range(100) for turn in range(50) if arranged.drops("c", walk, f"u{turn}")}

    assert len(dropped(0.1, 0)) / 5000 == pytest.approx(0.1, abs=0.02)
    assert dropped(0.1, 0) < dropped(0.2, 0)
    assert dropped(0.1, 0) != dropped(0.1, 1)
    # The same on every machine and for good.
    assert dropped(0.001, 0) == {(3, 31), (58, 27)}


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
    assert marked.prefix_ids == [begun.convert_tokens_to_ids("<s>")]
    assert encoded.ids[0] == marked.prefix_ids[0]
    assert encoded.turn[0] == -1
    assert marked.markers == FORMATS["released"]


def test_a_tokenizer_without_markers_is_refused(plain_gpt2: Any) -> None:
    with pytest.raises(PipelineError, match="has no markers"):
        MarkerTokenizer.load(plain_gpt2)


# --- What users write, from the corpus to the ids -----------------------------------------------------

# As models of the world have them: bare words in brackets, and tokens that swallow the blanks around them.
UNUSUAL = ["<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", " <pad>", "<mask>", "<<SYS>>", "[CLS]"]
LOOK_ALIKES = [
    "<Accepted>",
    "< accepted >",
    "<accepted",
    "accepted>",
    "<accep<rejected>ted>",
    "<<accepted>>",
    "<acce\u200bpted>",
    "＜accepted＞",
    "‹accepted›",
    "&lt;accepted&gt;",
    "&amp;lt;accepted&amp;gt;",
    "\u003caccepted\u003e",
    "<|endoftext|",
    "[INST",
    "Ġ<pad>",
]


def unusual(format: FormatName) -> MarkerTokenizer:
    """A tokenizer with special tokens of many models, of which it writes one before each text."""
    from tokenizers import processors

    trained = train_tokenizer([" ".join(WORDS)] * 20, 303, 128)
    trained.add_special_tokens(
        {
            "bos_token": "<s>",
            "pad_token": AddedToken(" <pad>", lstrip=True, rstrip=True),
            "mask_token": AddedToken("<mask>", lstrip=True, normalized=True),
            "additional_special_tokens": [one for one in UNUSUAL if one not in ("<s>", " <pad>", "<mask>")],
        }
    )
    trained.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", trained.bos_token_id)]
    )
    add_markers(trained, FORMATS[format])
    return MarkerTokenizer(trained)


@pytest.fixture(scope="module", params=FORMATS)
def marked(request: pytest.FixtureRequest) -> MarkerTokenizer:
    return unusual(request.param)


def special_strings(tokenizer: MarkerTokenizer) -> list[str]:
    """Every special token that the tokenizer knows."""
    inner = tokenizer.tokenizer
    return sorted({*inner.all_special_tokens, *(str(token) for token in inner.added_tokens_decoder.values())})


def format_of(tokenizer: MarkerTokenizer) -> FormatName:
    (name,) = (name for name, markers in FORMATS.items() if markers == tokenizer.markers)
    return name


def assert_nothing_forged(tokenizer: MarkerTokenizer, encoded: TokenizedWalk) -> None:
    """Special ids stand where the walk's own structure puts them, in this order, and nowhere else."""
    inner = tokenizer.tokenizer
    special = {*inner.all_special_ids, *inner.added_tokens_decoder} - {inner.unk_token_id}
    special |= {*tokenizer.prefix_ids, *tokenizer.eos_ids}
    ids, turns = encoded.ids.tolist(), encoded.turn.tolist()
    ends = [place for place, turn in enumerate(turns) if place + 1 == len(turns) or turns[place + 1] != turn]
    if tokenizer.eos_ids:
        assert ids[ends[-1]] == tokenizer.eos_ids[0]
        ends[-1] -= 1
    verdicts = [tokenizer.background_id, *(tokenizer.marker_id(verdict) for verdict in encoded.verdicts)]
    assert [ids[place] for place in ends] == verdicts
    assert [one for one in ids if one in special] == [*tokenizer.prefix_ids, *verdicts, *tokenizer.eos_ids]
    assert ids[: len(tokenizer.prefix_ids)] == tokenizer.prefix_ids


def typed(tokenizer: MarkerTokenizer) -> list[str]:
    """What somebody may type who knows the tokenizer: its special tokens, their halves, and what looks like them."""
    specials = special_strings(tokenizer)
    halves = [half for one in specials for half in (one[: len(one) // 2], one[len(one) // 2 :], one[:-1], one[1:])]
    return [*specials, *halves, *LOOK_ALIKES, *(marker for markers in FORMATS.values() for marker in markers.strings())]


def corpus_of(texts: list[str]) -> Corpus:
    """One conversation whose utterances all say such things, in texts, titles and names of speakers."""
    rows = [Row("r", "r", None, texts[0] or "ann", texts[-1], 0, {"score": 1})]
    for number, text in enumerate(texts):
        parent = "r" if number < 3 else f"u{number - 3}"
        speaker = texts[-number - 1] or "bob"
        rows.append(Row(f"u{number}", "r", parent, speaker, text, number, {"score": number % 5}))
    return Corpus(rows, {"r": {"title": " ".join(texts[:5]) or "Title"}})


@pytest.fixture(scope="module")
def neutral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[FormatName, duckdb.DuckDBPyConnection]]:
    """For each format a connection with DuckDB's `neutral`, as the walks use it."""
    folder = tmp_path_factory.mktemp("neutral")
    write_utterances(corpus_of(["a"]).write(folder / "corpus"), folder / "out")
    with duckdb.connect() as default, duckdb.connect() as released:
        create_rendered(default, folder / "out", "default", "names")
        create_rendered(released, folder / "out", "released", "names")
        yield {"default": default, "released": released}


@pytest.mark.slow
@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_forges_a_verdict_or_any_other_special_token(
    marked: MarkerTokenizer, neutral: dict[FormatName, duckdb.DuckDBPyConnection], data: st.DataObject
) -> None:
    pieces = st.one_of(st.sampled_from(typed(marked)), st.sampled_from(NASTY_TEXTS), st.text(max_size=3))
    texts = st.lists(pieces, max_size=6).map("".join)
    drawn = data.draw(st.lists(st.tuples(texts, texts, verdict), min_size=1, max_size=5))
    background = data.draw(texts)
    connection, format = neutral[format_of(marked)], format_of(marked)

    def spelt(text: str) -> str:
        ((found,),) = connection.execute("SELECT neutral($1)", [text]).fetchall()
        assert isinstance(found, str)
        if format == "default":
            assert not any(marker in found for marker in FORMATS["default"].strings())
        else:
            assert found == text
        return found

    turns = [(spelt(speaker), spelt(text), verdict) for speaker, text, verdict in drawn]
    (encoded,) = encode_walks(marked, [walk(spelt(background), turns, markers=marked.markers)])
    assert_nothing_forged(marked, encoded)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["top-2", "random-walk", "ascending"])
def test_a_corpus_of_special_tokens_has_verdicts_only_where_turns_end(
    marked: MarkerTokenizer, kind: str, tmp_path: Path
) -> None:
    texts = [text for text in typed(marked) if text.strip()]
    write_utterances(corpus_of(texts).write(tmp_path / "corpus"), tmp_path / "utterances")
    write_ranked_replies(tmp_path / "utterances", tmp_path / "ranked", RankingSettings(speakers=()))
    walking = WalkSettings(format=format_of(marked), walks_per_conversation=20, exclude_repeats=False)
    counts = write_walks(kind, tmp_path / "utterances", tmp_path / "ranked", tmp_path / "walks", walking)
    rows = [row for file in (tmp_path / "walks" / "data").iterdir() for row in pq.read_table(file).to_pylist()]
    assert len(rows) == counts["walks"] == 20
    assert len(utterance_records(tmp_path / "utterances")) == len(texts) + 1
    for row, encoded in zip(rows, encode_walks(marked, rows), strict=True):
        assert [*encoded.verdicts] == [turn["verdict"] for turn in row["turns"]]
        assert_nothing_forged(marked, encoded)


def test_a_text_of_special_tokens_is_content_and_can_be_read_back(marked: MarkerTokenizer) -> None:
    """Nothing is lost on the way: each is spelt out in ordinary tokens."""
    for text in special_strings(marked):
        (ids,) = marked.ids([f"a{text}b"])
        assert marked.tokenizer.decode(ids) == f"a{text}b"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["null", "[]", "{", "[" * 100_000, '{"model": 3}'])
def test_a_damaged_tokenizer_ends_in_a_sentence(small_model: Path, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(small_model, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(content)
    if name == "tokenizer_config.json" and content == '{"model": 3}':
        MarkerTokenizer.load(tmp_path)
        return
    with pytest.raises(DamagedError, match=r"The tokenizer in .* cannot be loaded .*: materialize the asset"):
        MarkerTokenizer.load(tmp_path)
