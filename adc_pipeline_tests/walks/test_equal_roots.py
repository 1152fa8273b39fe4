"""Which test conversations have an equal root in training, beside a comparison of every pair of whole texts."""

import random
import unicodedata

from adc_pipeline.core.engine import connected, only_row
from adc_pipeline.corpus.near_duplicates.near_matches import FOLDED
from adc_pipeline.walks.leakage import EQUAL

BEGINNING = 64
WORDS = ("a", "Größe", "ÉTÉ", "x_1", "E\u0301te\u0301", "42", "w" * BEGINNING)
GAPS = (" ", ", ", "\n", "... ", "-" * BEGINNING)


def words_of(text: str) -> list[str]:
    composed = unicodedata.normalize("NFC", text).lower()
    return "".join(" " if unicodedata.category(each)[0] in "PZC" else each for each in composed).split()


def test_roots_are_equal_if_all_their_words_are() -> None:
    random.seed(7)
    roots = [
        "".join(random.choice(GAPS) + random.choice(WORDS[:size]) for _ in range(length))
        + random.choice(("", "!", " ?"))
        for size in (1, 2, 7)
        for length in range(9)
        for _ in range(12)
    ]
    rows = [(number, bool(number % 2), root) for number, root in enumerate(roots)]
    trained = [words_of(root) for _, held_out, root in rows if not held_out]
    expected = {number for number, held_out, root in rows if held_out and words_of(root) and words_of(root) in trained}
    with connected() as connection:
        connection.execute(FOLDED)
        connection.execute("CREATE TABLE walked (number BIGINT, held_out BOOLEAN, root VARCHAR)")
        connection.executemany("INSERT INTO walked VALUES ($1, $2, $3)", rows)
        found = set(only_row(connection, EQUAL)["numbers"])
    assert found == expected
    assert 0 < len(expected) < len(rows) / 2
