"""Find texts that are nearly alike: MinHash by the library rensa, and the exact similarity of what that finds.

A text is the set of its runs of three words, in lower case and without punctuation; two texts are nearly alike if the
runs that they share are at least so large a part of the runs that either has (the Jaccard similarity). MinHash gives
each text 120 numbers, which are cut into 20 bands; texts with an equal band are candidates (98 % of the pairs with a
similarity of 0.75, 99.8 % of those with 0.8), and are compared run by run. Comparing all pairs would take years for a
million texts.

rensa does in Rust what datasketch does in Python.

Where a few texts are compared with many (a test split with training), most texts need no MinHash: `near_matches` takes
those first that have one of their four smallest hashes of runs in common with the other side, which two texts with a
similarity of 0.8 have in 99.8 % of cases. DuckDB makes these in 13 µs a text of 40 words, a seventh of the whole.
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

# Equal but for case, Unicode composition, punctuation and white space.
FOLDED = r"""
CREATE OR REPLACE TEMP MACRO folded(content) AS
    trim(regexp_replace(lower(nfc_normalize(content)), '[\pP\pZ\pC]+', ' ', 'g'))
"""

# Of the texts with an equal band the first is the one that all others are compared with. Whatever is not near the first
# of one band has up to 19 other bands.
CANDIDATES = """
SELECT DISTINCT number, first FROM (
    SELECT number, min(number) OVER (PARTITION BY band, key) AS first FROM bands
) WHERE first < number
ORDER BY number, first
"""

# Of each text its smallest hashes of runs, of a shorter text of its words. The hash need not be the same tomorrow.
SKETCHES = r"""
CREATE OR REPLACE TEMP TABLE sketches AS
SELECT number, held_out, unnest(list_slice(list_sort(list_distinct(list_transform(
    range(1, greatest(len(words) - 1, 2)), lambda place: hash(words[place], words[place + 1], words[place + 2])
))), 1, 4)) AS sketch
FROM (SELECT number, held_out, regexp_extract_all(lower(text), '[\pL\pN_]+') AS words FROM compared)
WHERE len(words) > 0
"""
SHARED = """
SELECT number, text FROM compared WHERE number IN (
    SELECT number FROM sketches SEMI JOIN (
        SELECT sketch FROM sketches GROUP BY sketch HAVING bool_or(held_out) AND NOT bool_and(held_out)
    ) AS shared USING (sketch)
) ORDER BY held_out, number
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


def near_matches(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> set[int]:
    """Return the numbers of held-out texts that are nearly alike to one that is not held out.

    The query gives `number`, `held_out` and `text`.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE compared AS {query}", parameters)
    connection.execute(SKETCHES)
    rows = connection.execute(SHARED).fetchall()
    numbers, texts = [number for number, _ in rows], [text for _, text in rows]
    held_out = {number for (number,) in connection.execute("SELECT number FROM compared WHERE held_out").fetchall()}
    pairs = ((numbers[later], numbers[first]) for later, first in near_pairs(connection, texts))
    return {later for later, first in pairs if later in held_out and first not in held_out}
