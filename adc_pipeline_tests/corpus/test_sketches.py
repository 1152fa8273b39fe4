"""Sketches of texts, beside the runs that Python cuts one text at a time."""

import random

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.corpus.near_duplicates.minhash import WORD, runs, similarity
from adc_pipeline.corpus.near_duplicates.near_matches import near_matches
from adc_pipeline.corpus.near_duplicates.sketches import BINS, EMPTY, sketch, word_characters

WORDS = ["a", "ab", "b", "0", "x_1", "straße", "мир", "日本", "𝒳²", "conversation", "w" * 63, "w" * 65, "é" * 40]
TEXTS = st.lists(st.lists(st.sampled_from([*WORDS, ".", " ", "--"]), max_size=8).map(" ".join), max_size=12)


def sketched(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [(text.lower() + " ").encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return sketch(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)


@given(TEXTS)
def test_texts_have_one_sketch_exactly_if_they_have_the_same_runs(texts: list[str]) -> None:
    bins, whole = sketched(texts)
    for number, text in enumerate(texts):
        assert (bins[number] == sketched([text])[0][0]).all()
        assert (bins[number] != EMPTY).any() == (whole[number] != 0) == bool(runs(text))
        # A bin keeps one run, so a text of few runs shows nearly all of them.
        assert (bins[number] != EMPTY).sum() <= len(runs(text))
        for other in range(number):
            if runs(texts[other]) == runs(text):
                assert (bins[other] == bins[number]).all()
            elif not runs(texts[other]) & runs(text):
                assert not ((bins[other] == bins[number]) & (bins[number] != EMPTY)).any()


def test_the_share_of_equal_bins_estimates_the_similarity(monkeypatch: pytest.MonkeyPatch) -> None:
    # Chunks of a few texts, of which some are longer than a chunk.
    monkeypatch.setattr("adc_pipeline.corpus.near_duplicates.sketches.CHUNK", 1_000)
    dice = random.Random(0)
    errors = []
    for _ in range(100):
        words = [f"w{dice.randrange(10_000)}" for _ in range(300)]
        changed = [dice.choice(words) if dice.random() < 0.1 else word for word in words]
        one, other = " ".join(words), " ".join(changed)
        bins, _ = sketched([one, "between", other])
        errors.append((bins[0] == bins[2]).mean() - similarity(runs(one), runs(other)))
    # The standard error of one estimate is at most 1 / sqrt(4 * BINS).
    assert abs(np.mean(errors)) < 0.04
    assert np.std(errors) < 1 / np.sqrt(4 * BINS) + 0.03


def test_words_consist_of_the_characters_that_a_regular_expression_finds() -> None:
    text = "".join(map(chr, range(0x40000)))
    found = np.zeros(len(text), dtype=bool)
    for word in WORD.finditer(text):
        found[word.start() : word.end()] = True
    assert (word_characters()[: len(text)] == found).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("“Quoted” — and so on, he said; it’s done…", '"quoted" and SO on: he said it\'s done'),
        ("Ähnlich wie vorher, und ÜBERALL", "ähnlich wie vorher und überall!"),
        ("two words", "TWO, words!"),
    ],
)
def test_punctuation_beyond_ascii_parts_words(one: str, other: str) -> None:
    assert runs(one) == runs(other)
    with duckdb.connect() as connection:
        rows = "(VALUES (7, true, $one), (8, false, $other), (9, true, '…')) AS made (number, held_out, text)"
        assert near_matches(connection, f"FROM {rows}", {"one": one, "other": other}) == {7}
