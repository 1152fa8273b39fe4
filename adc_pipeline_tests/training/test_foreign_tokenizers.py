"""Tokenizers from elsewhere: what they put before a text, and whether a turn can be read back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    ByT5Tokenizer,
    LayoutLMv3Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.scoring.likelihoods import Query, encoded
from adc_pipeline.generation.conversation import Conversation, prompt_ids
from adc_pipeline.generation.decoding import Spelling, TextStream
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.rows.batches import build_batch
from adc_pipeline.training.rows.packing import cut_into_pieces, pack
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.dataset import load_split, tokenize_split
from adc_pipeline.training.texts.layout import encode_walks
from adc_pipeline.training.texts.reading_back import check_loads_again, check_reads_back, read_back
from adc_pipeline.training.texts.tokenizer import add_markers
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.conftest import TEXTS
from adc_pipeline_tests.training.walks import walk, write_dataset

MARKERS = FORMATS["default"]
SPECIALS = ["<s>", "</s>", "[gMASK]", "<sop>", "<unk>"]


def byte_level(specials: list[str] = SPECIALS, prefix_space: bool = False) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def unigram(normalizer: Any, pre_tokenizer: Any = None, decoder: Any = None, texts: list[str] = TEXTS) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.normalizer, backend.decoder = normalizer, decoder or decoders.Metaspace()
    backend.pre_tokenizer = pre_tokenizer or pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([*texts, "ann bob cid yes no"] * 3, trainer)
    return backend


def wrapped(backend: Tokenizer, **tokens: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", **tokens)


def marked(tokenizer: PreTrainedTokenizerBase) -> MarkerTokenizer:
    add_markers(tokenizer, MARKERS)
    return MarkerTokenizer(tokenizer)


def templated(single: str, **tokens: str) -> PreTrainedTokenizerFast:
    backend = byte_level()
    written = [(one, backend.token_to_id(one)) for one in single.split() if one != "$A"]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=written)
    return wrapped(backend, **tokens)


def slow_with_a_beginning() -> PreTrainedTokenizerBase:
    class Begun(ByT5Tokenizer):
        def build_inputs_with_special_tokens(self, first: list[int], second: list[int] | None = None) -> list[int]:
            return [self.pad_token_id, *super().build_inputs_with_special_tokens(first, second)]

    return Begun(extra_ids=0)


# --- What is put before a text ------------------------------------------------------------------------

PREFIXES: dict[str, tuple[Callable[[], PreTrainedTokenizerBase], list[str]]] = {
    "nothing": (lambda: wrapped(byte_level()), []),
    "nothing, though it has a beginning": (lambda: wrapped(byte_level(), bos_token="<s>"), []),
    "a beginning": (lambda: templated("<s> $A", bos_token="<s>"), ["<s>"]),
    "two tokens, as GLM": (lambda: templated("[gMASK] <sop> $A"), ["[gMASK]", "<sop>"]),
    "the end of text, as OPT": (lambda: templated("</s> $A"), ["</s>"]),
    "tokens on both sides, as BART": (lambda: templated("<s> $A </s>", bos_token="<s>"), ["<s>"]),
    "a token behind only, as T5": (lambda: templated("$A </s>"), []),
    "a token of a slow tokenizer": (slow_with_a_beginning, ["<pad>"]),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_what_a_tokenizer_puts_before_a_text_is_put_before_a_walk(name: str) -> None:
    make, prefix = PREFIXES[name]
    tokenizer = marked(make())
    ids = tokenizer.tokenizer.convert_tokens_to_ids(prefix)
    assert tokenizer.prefix_ids == ids
    (trained,) = encode_walks(tokenizer, [walk("the walk", [("ann", "yes", "accepted")])])
    plain = tokenizer.ids(["the walk"])[0]
    start = [*ids, *plain, tokenizer.background_id]
    assert trained.ids.tolist()[: len(start)] == start
    what = encoded([Query("the walk", (), "ann\nyes")], tokenizer, 100)
    assert [int(one) for one in what.pieces[what.paths[0][0]]] == start
    assert prompt_ids(Conversation("the walk"), tokenizer, Arrangement(), 100) == start


def test_a_piece_whose_background_was_cut_begins_with_the_prefix(tmp_path: Path) -> None:
    tokenizer = marked(PREFIXES["two tokens, as GLM"][0]())
    long = walk("tree of replies " * 20, [("ann", "yes and no " * 5, "accepted"), ("bob", "so it is", "accepted")])
    tokenize_split(tokenizer, write_dataset(tmp_path / "d", train=[long]), "train", tmp_path / "tokens")
    split = load_split(tmp_path / "tokens")
    pieces = cut_into_pieces(split, 32)
    assert pieces.counts["backgrounds_cut"] == 1
    rows = pack(pieces.lengths, 32, 0, 0)
    batch = build_batch(split, pieces, rows, 32)
    begins = np.argwhere((batch.position_ids == 0) & (batch.parts < 3))
    for row, place in begins:
        assert batch.input_ids[row, place : place + 2].tolist() == tokenizer.prefix_ids


# --- Whether a turn can be read back ------------------------------------------------------------------

LINES = ["ann\nyes", "bob\nno no", "cid\nso it is"] * 30
SPACES = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
READ_BACK: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "bytes": (byte_level, ""),
    "a space before every text": (lambda: byte_level(prefix_space=True), " "),
    "a space that the decoder keeps": (
        lambda: unigram(normalizers.Prepend("▁"), pre_tokenizers.Split("▁", "merged_with_next"), texts=LINES),
        "",
    ),
    "a line break before every text": (
        lambda: unigram(normalizers.Prepend("\n"), pre_tokenizers.Split("▁", "isolated"), decoders.Fuse(), LINES),
        "\n",
    ),
    "small letters only": (lambda: unigram(normalizers.Lowercase(), texts=LINES), ""),
}


@pytest.mark.parametrize("name", READ_BACK)
def test_a_turn_is_read_back_as_it_was_spelt(name: str) -> None:
    make, added = READ_BACK[name]
    tokenizer = marked(wrapped(make()))
    check_reads_back(tokenizer, "The model")
    assert tokenizer.text_prefix == added
    (ids,) = tokenizer.ids(["ann\nyes"])
    spelling = Spelling(tokenizer, speaks=True)
    assert spelling.parts(spelling.text(ids)) == ("ann", "yes")
    assert tokenizer.ids([spelling.text(ids)]) == [ids]
    pieces: list[str] = []
    stream = TextStream(spelling, pieces.append)
    for value in ([0], *([one] for one in ids)):
        stream.put(np.array(value))  # type: ignore[arg-type]
    stream.end()
    assert "".join(pieces) == "ann\nyes"


def test_a_tokenizer_without_a_line_break_alone_cannot_replace_a_marker() -> None:
    kept = normalizers.Sequence([normalizers.Replace(" ", "▁"), normalizers.Strip()])
    tokenizer = marked(wrapped(unigram(kept, pre_tokenizers.Split("▁", "isolated"), texts=LINES)))
    check_reads_back(tokenizer, "The model")
    record = walk("the walk", [("ann", "yes", "accepted")])
    assert list(encode_walks(tokenizer, [record]))
    with pytest.raises(PipelineError, match="no token for a line break, which replaces a marker"):
        list(encode_walks(tokenizer, [record], Arrangement(dropped_markers=1.0)))


def characters(known: str) -> PreTrainedTokenizerFast:
    """Single characters; others are lost without a token."""
    vocabulary = {one: number for number, one in enumerate([*SPECIALS, *sorted({*known, " ", "\n"})])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def test_characters_that_a_tokenizer_does_not_know_are_counted(tmp_path: Path) -> None:
    tokenizer = marked(characters("abcdefghijklmnopqrstuvwxyz"))
    found = read_back(tokenizer, ["ann\nyes", "bob\nso 7"])
    assert (found.missing, found.commonest, found.characters, found.changed) == (1, ("7",), 12, 0)
    record = walk("the walk 42", [("ann", "yes", "accepted")])
    tokenize_split(tokenizer, write_dataset(tmp_path / "d", train=[record]), "train", tmp_path / "tokens")
    assert load_split(tmp_path / "tokens").unreadable == {"share": round(2 / 15, 6), "characters": ["4", "2"]}
    plain = walk("the walk", [("ann", "yes", "accepted")])
    tokenize_split(tokenizer, write_dataset(tmp_path / "p", train=[plain]), "train", tmp_path / "plain")
    assert load_split(tmp_path / "plain").unreadable == {}


def test_a_tokenizer_of_another_script_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", train=[walk("прогулка", [("анна", "да", "accepted")])])
    for tokenizer in (characters("abc"), wrapped(unigram(normalizers.Replace(" ", "▁"), texts=LINES))):
        with pytest.raises(PipelineError, match=r"does not know \d+% of the characters of the corpus, such as . . . "):
            tokenize_split(marked(tokenizer), dataset, "train", tmp_path / "tokens")
        assert not (tmp_path / "tokens").exists()
    # Small letters, without accents and in another form of Unicode are the same text.
    forms = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    backend = byte_level()
    backend.normalizer = forms
    found = read_back(marked(wrapped(backend)), ["Élan ＡＢ ½ 안녕 🙂", "Straße"])
    assert (found.missing, found.changes) == (0, ("forms of characters", "capitals"))


@pytest.mark.parametrize(
    ("normalizer", "changes"),
    [
        (normalizers.Replace(Regex("\n+"), "\n"), ["line breaks"]),
        (normalizers.Replace(Regex(" +"), " "), ["spaces"]),
        (normalizers.Replace("\t", " "), ["spaces"]),
        (normalizers.Lowercase(), ["capitals"]),
        (normalizers.NFKC(), ["forms of characters"]),
        (normalizers.Strip(), None),
    ],
)
def test_what_a_tokenizer_changes_in_texts_is_counted(
    normalizer: Any, changes: list[str] | None, tmp_path: Path
) -> None:
    backend = byte_level()
    backend.normalizer = normalizer
    record = walk("the walk\nof 2", [("ann", "So  it\tgoes\n\nﬁne", "accepted"), ("bob", "yes", "accepted")])
    tokenize_split(
        marked(wrapped(backend)), write_dataset(tmp_path / "d", train=[record]), "train", tmp_path / "tokens"
    )
    expected = {"changed": 0.333333, "changes": changes} if changes else {}
    assert load_split(tmp_path / "tokens").unreadable == expected


def test_a_text_that_a_tokenizer_cannot_read_is_a_sentence(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({one: number for number, one in enumerate(["</s>", "a", "b", " ", "\n"])}))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = marked(wrapped(backend))
    assert tokenizer.ids(["a b"]) == [[1, 3, 2]]
    with pytest.raises(PipelineError, match=r"cannot read every text \(WordLevel error: .*\); choose"):
        tokenizer.ids(["a b", "c"])


def test_a_tokenizer_that_is_another_once_it_was_saved_is_refused(tmp_path: Path) -> None:
    """The number 0 is nobody's: an added token then gets another id when it is loaded."""
    vocabulary = {one: number for number, one in enumerate([*" \nabcdeghilnoprstuvwy", "</s>"], start=1)}
    for name, ids in {"whole": {"<unk>": 0, **vocabulary}, "gap": vocabulary}.items():
        backend = Tokenizer(models.WordLevel(ids, unk_token="</s>"))
        backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        backend.decoder = decoders.Fuse()
        tokenizer = marked(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"))
        tokenizer.tokenizer.save_pretrained(tmp_path / name)
        if name == "whole":
            check_loads_again(tokenizer, tmp_path / name, "The model")
        else:
            with pytest.raises(PipelineError, match="The model has a tokenizer that is another once it was saved and"):
                check_loads_again(tokenizer, tmp_path / name, "The model")


def test_a_tokenizer_that_loses_spaces_is_refused() -> None:
    backend = byte_level()
    backend.normalizer = normalizers.Replace(" ", "")
    with pytest.raises(PipelineError, match=r"The model has a tokenizer that loses spaces: it reads 'a\\na a' as"):
        check_reads_back(marked(wrapped(backend)), "The model")


def test_a_tokenizer_of_words_on_a_page_is_refused(plain_gpt2: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(plain_gpt2).save_pretrained(tmp_path / "plain")
    LayoutLMv3Tokenizer().train_new_from_iterator(TEXTS, 280).save_pretrained(tmp_path / "plain")
    with pytest.raises(PipelineError, match=r"has a LayoutLMv3Tokenizer that cannot read a plain text \(Words must be"):
        prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), MARKERS, [], tmp_path / "out")


@pytest.mark.parametrize("dropout", [0.01, 1.0])
def test_a_tokenizer_that_draws_is_refused(dropout: float) -> None:
    backend = byte_level()
    backend.model.dropout = dropout
    if dropout == 1:
        # No merge at all is always the same.
        check_reads_back(marked(wrapped(backend)), "The model")
        return
    with pytest.raises(PipelineError, match="The model has a tokenizer that splits one text in several ways"):
        check_reads_back(marked(wrapped(backend)), "The model")


def test_a_text_that_changes_with_what_is_put_before_it_is_refused() -> None:
    class Changed(ByT5Tokenizer):
        def build_inputs_with_special_tokens(self, first: list[int], second: list[int] | None = None) -> list[int]:
            return [self.pad_token_id, *(one + 1 for one in first)]

    with pytest.raises(PipelineError, match="what it puts before every text is not known"):
        marked(Changed(extra_ids=0))


def words() -> Tokenizer:
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIALS, show_progress=False)
    backend.train_from_iterator([*TEXTS, "a b ann yes"], trainer)
    return backend


def line_break_as_a_special_token() -> PreTrainedTokenizerFast:
    tokenizer = wrapped(unigram(normalizers.Replace(" ", "▁")))
    tokenizer.add_special_tokens({"additional_special_tokens": ["\n"]})
    return tokenizer


LOST: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "every white space is a space, as T5": lambda: wrapped(unigram(SPACES)),
    "words without what is between them": lambda: wrapped(words()),
    "a line break is an unknown character": lambda: wrapped(unigram(normalizers.Replace(" ", "▁"))),
    "a line break is removed, as BERT": lambda: wrapped(unigram(normalizers.BertNormalizer())),
    "a line break is a special token": line_break_as_a_special_token,
}


@pytest.mark.parametrize("name", LOST)
def test_a_tokenizer_that_loses_the_line_break_is_refused(name: str, plain_gpt2: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(plain_gpt2).save_pretrained(tmp_path / "plain")
    LOST[name]().save_pretrained(tmp_path / "plain")
    with pytest.raises(PipelineError, match=r"has a tokenizer that loses line breaks: it reads '.\\n. .' as '.*'"):
        prepare_base_model(BaseModelSettings(name=str(tmp_path / "plain")), MARKERS, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
