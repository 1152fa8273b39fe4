"""Find texts that are nearly alike: MinHash by the library rensa, and the exact similarity of what that finds.

A text is the set of its runs of three words, in lower case and without punctuation; two texts are nearly alike if the
runs that they share are at least so large a part of the runs that either has (the Jaccard similarity). MinHash gives
each text 120 numbers, which are cut into 20 bands; texts with an equal band are candidates (98 % of the pairs with a
similarity of 0.75, 99.8 % of those with 0.8), and are compared run by run. Comparing all pairs would take years for a
million texts.

rensa does in Rust what datasketch does in Python. Where a few texts are compared with many (a test split with
training), `near_matches` needs less than all pairs of the many.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PERMUTATIONS, BANDS = 120, 20
RUN = 3
SIMILARITY = 0.8
# Texts of fewer words are often alike and no copies.
FEW_WORDS = 8
BATCH = 5_000
WORD = re.compile(r"\w+")

# Of the texts with an equal band the first is the one that all others are compared with. Whatever is not near the first
# of one band has up to 19 other bands.
CANDIDATES = """
SELECT DISTINCT number, first FROM (
    SELECT number, min(number) OVER (PARTITION BY band, key) AS first FROM bands
) WHERE first < number
ORDER BY number, first
"""


def runs(text: str) -> set[str]:
    """Return the runs of three words of a text; of a shorter one, all its words as one run; of an empty one, none."""
    words = WORD.findall(text.lower())
    if len(words) < RUN:
        return {" ".join(words)} if words else set()
    return {" ".join(words[begin : begin + RUN]) for begin in range(len(words) - RUN + 1)}


def similarity(one: set[str], other: set[str]) -> float:
    """Return the Jaccard similarity of two sets; 0 if both are empty."""
    return len(one & other) / len(one | other) if one or other else 0.0


def near_pairs(connection: "DuckDBPyConnection", texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of numbers of texts that are nearly alike: a text, and an earlier one.

    A text without words is like no other. DuckDB keeps 20 rows of 17 bytes a text, and spills.
    """
    if len(texts) < 2:
        return
    import numpy as np
    import pyarrow as pa
    import rensa

    source = iter(texts)
    connection.execute("CREATE OR REPLACE TEMP TABLE bands (number BIGINT, band UTINYINT, key UBIGINT)")
    number = 0
    while batch := list(islice(source, BATCH)):
        sets = [runs(text) for text in batch]
        filled = [place for place, each in enumerate(sets) if each]
        matrix = rensa.RMinHash.digest_matrix_from_token_sets(
            [sorted(sets[place]) for place in filled], PERMUTATIONS, 1
        )
        rows = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(filled), BANDS, PERMUTATIONS // BANDS)
        # Multiplied and added, modulo 2**64; two bands that differ and have one key cost a comparison, no more.
        keys = np.zeros(rows.shape[:2], dtype=np.uint64)
        for place in range(rows.shape[2]):
            keys = (keys ^ rows[:, :, place]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(place)
        numbers = np.repeat(np.array(filled, dtype=np.int64) + number, BANDS)
        bands = np.tile(np.arange(BANDS, dtype=np.uint8), len(filled))
        found = pa.table({"number": numbers, "band": bands, "key": keys.reshape(-1)})
        connection.register("found", found)
        connection.execute("INSERT INTO bands FROM found")
        connection.unregister("found")
        number += len(batch)
    candidates = connection.execute(CANDIDATES)
    while page := candidates.fetchmany(BATCH):
        for later, first in page:
            if similarity(runs(texts[later]), runs(texts[first])) >= SIMILARITY:
                yield later, first
