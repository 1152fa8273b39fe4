"""Find the texts of a held-out split that are equal, or nearly alike, to a text of the other side.

Nearly alike is what it is in `near_duplicates`: the Jaccard similarity of the runs of three words. Each text has a
sketch of 16 bins (`sketches`), of which texts with a similarity of 0.8 have at least half in common in 99.9 % of cases,
so that a join of the sketches finds the candidates, and only these are compared run by run. Texts with the same runs
need no comparison.

Cost: 4.6 CPU s for the roots and the replies of 31,550 conversations of `reddit-college`, and the texts in memory. Each
text has up to 16 rows of 26 bytes. DuckDB spills both.
"""

from typing import TYPE_CHECKING

from adc_pipeline.corpus.near_duplicates import SIMILARITY, runs, similarity
from adc_pipeline.corpus.sketches import EMPTY, Sketches

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Texts that differ only in case, Unicode composition, punctuation or white space have one folded form.
FOLDED = r"""
CREATE OR REPLACE TEMP MACRO folded(content) AS
    trim(regexp_replace(lower(nfc_normalize(content)), '[\pP\pZ\pC]+', ' ', 'g'))
"""

# A run of boilerplate can be in the sketches of many texts: a held-out text is compared with so many of them.
MOST_TEXTS = 1_000
# Texts read at once.
BATCH = 8_192

# Signs beyond ASCII that are no letters and no digits part words, as in `near_duplicates`. Few texts hold any.
LOWERED = r"""
SELECT number, held_out, CASE WHEN strlen(text) = length(text) THEN lower(text)
    ELSE regexp_replace(lower(text), '[^\x00-\x7F\pL\pN]+', ' ', 'g') END || ' ' AS text
FROM compared WHERE rowid >= $first AND rowid < $first + $batch
"""
TABLE = """
CREATE OR REPLACE TEMP TABLE sketches (number BIGINT, held_out BOOLEAN, whole UBIGINT, bin UTINYINT, hash UBIGINT)
"""
EQUAL = """
CREATE OR REPLACE TEMP TABLE equal_texts AS
SELECT DISTINCT number FROM sketches WHERE held_out AND whole IN (SELECT whole FROM sketches WHERE NOT held_out)
"""
# Of the texts of training with the same runs one is enough.
CANDIDATES = """
WITH trained AS (
    SELECT min(number) AS number, bin, hash FROM sketches WHERE NOT held_out GROUP BY whole, bin, hash
    QUALIFY row_number() OVER (PARTITION BY bin, hash ORDER BY min(number)) <= $most
), sizes AS (
    SELECT number, count(*) AS bins FROM sketches GROUP BY number
), pairs AS (
    SELECT h.number, t.number AS other, count(*) AS common
    FROM (FROM sketches WHERE held_out AND number NOT IN (FROM equal_texts)) AS h JOIN trained AS t USING (bin, hash)
    GROUP BY ALL
)
SELECT number, h.text, t.text
FROM pairs JOIN sizes AS s USING (number) JOIN sizes AS o ON o.number = other
    JOIN compared AS h USING (number) JOIN compared AS t ON t.number = other
WHERE common * 2 >= least(s.bins, o.bins)
"""


def near_matches(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> set[int]:
    """Return the numbers of held-out texts that are equal or nearly alike to one that is not held out.

    The query gives `number`, `held_out` and `text`.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE compared AS {query}", parameters)
    create_sketches(connection)
    connection.execute(EQUAL)
    found = {number for (number,) in connection.execute("FROM equal_texts").fetchall()}
    candidates = connection.execute(CANDIDATES, {"most": MOST_TEXTS})
    while rows := candidates.fetchmany(100):
        for number, text, other in rows:
            if number not in found and similarity(runs(text), runs(other)) >= SIMILARITY:
                found.add(number)
    return found


def create_sketches(connection: "DuckDBPyConnection") -> None:
    """Create the table `sketches`, one row for each filled bin of each text of the table `compared`."""
    import numpy as np
    import pyarrow as pa

    connection.execute(TABLE)
    (count,) = connection.execute("SELECT count(*) FROM compared").fetchall()[0]
    sketches = Sketches()
    for first in range(0, count, BATCH):
        batch = connection.sql(LOWERED, params={"first": first, "batch": BATCH}).to_arrow_table().combine_chunks()
        texts = batch["text"].chunk(0).cast(pa.large_string())
        _, offsets, data = texts.buffers()
        begins = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
        bins, whole = sketches.take(np.frombuffer(data, dtype=np.uint8), begins)
        text, place = np.nonzero(bins != EMPTY)
        made = pa.table(
            {
                "number": batch["number"].take(pa.array(text)),
                "held_out": batch["held_out"].take(pa.array(text)),
                "whole": whole[text],
                "bin": place.astype(np.uint8),
                "hash": bins[text, place],
            }
        )
        connection.register("made", made)
        connection.execute("INSERT INTO sketches FROM made")
        connection.unregister("made")
