"""Find the texts of a held-out split that are equal, or nearly alike, to a text of the other side.

Nearly alike is what it is in `near_duplicates`: the Jaccard similarity of the runs of three words. A text's 16 smallest
hashes of runs (its bottom-k sketch; Broder 1997, "On the resemblance and containment of documents") are a random sample
of its runs. Two texts with a similarity of 0.8 have at least half of them in common in 99.8 % of cases, so that a join
of the sketches finds the candidates, and only these are compared run by run. Texts with the same runs in the same order
need no comparison.

Cost: 14 CPU s and 1 GB for the 31,547 roots and 30,790 conversations of `reddit-college` with 145 MB of text, nine
tenths of it for cutting the texts into words and hashing the runs. MinHash took 38 s and 2.2 GB.
"""

from typing import TYPE_CHECKING

from adc_pipeline.corpus.near_duplicates import SIMILARITY, runs, similarity

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Texts that differ only in case, Unicode composition, punctuation or white space have one folded form.
FOLDED = r"""
CREATE OR REPLACE TEMP MACRO folded(content) AS
    trim(regexp_replace(lower(nfc_normalize(content)), '[\pP\pZ\pC]+', ' ', 'g'))
"""

SKETCH = 16
# A run of boilerplate can be in the sketches of many texts: a held-out text is compared with so many of them.
MOST_TEXTS = 1_000

# A run that is repeated is hashed repeatedly, so more hashes are taken than a sketch holds.
SKETCHES = r"""
CREATE OR REPLACE TEMP TABLE sketches AS
SELECT number, held_out, hash(words) AS whole,
    list_slice(list_sort(list_distinct(list_aggregate(list_transform(
        range(1, greatest(len(words) - 1, 2)), lambda place: hash(words[place], words[place + 1], words[place + 2])
    ), 'min', 3 * $sketch))), 1, $sketch) AS sketch
FROM (SELECT number, held_out, regexp_extract_all(lower(text), '[\pL\pN_]+') AS words FROM compared)
WHERE len(words) > 0
"""
EQUAL = """
CREATE OR REPLACE TEMP TABLE equal_texts AS
SELECT number FROM sketches WHERE held_out AND whole IN (SELECT whole FROM sketches WHERE NOT held_out)
"""
CANDIDATES = """
WITH hashes AS (
    SELECT number, held_out, len(sketch) AS size, unnest(sketch) AS hash FROM (
        SELECT min(number) AS number, held_out, whole, any_value(sketch) AS sketch FROM sketches
        GROUP BY held_out, whole, CASE WHEN held_out THEN number END
    )
), trained AS (
    FROM hashes WHERE NOT held_out QUALIFY row_number() OVER (PARTITION BY hash ORDER BY number) <= $most
), pairs AS (
    SELECT h.number, t.number AS other
    FROM (FROM hashes WHERE held_out AND number NOT IN (FROM equal_texts)) AS h JOIN trained AS t USING (hash)
    GROUP BY ALL HAVING count(*) * 2 >= least(any_value(h.size), any_value(t.size))
)
SELECT number, h.text, t.text FROM pairs JOIN compared AS h USING (number) JOIN compared AS t ON t.number = other
"""


def near_matches(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> set[int]:
    """Return the numbers of held-out texts that are equal or nearly alike to one that is not held out.

    The query gives `number`, `held_out` and `text`.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE compared AS {query}", parameters)
    connection.execute(SKETCHES, {"sketch": SKETCH})
    connection.execute(EQUAL)
    found = {number for (number,) in connection.execute("FROM equal_texts").fetchall()}
    candidates = connection.execute(CANDIDATES, {"most": MOST_TEXTS})
    while rows := candidates.fetchmany(100):
        for number, text, other in rows:
            if number not in found and similarity(runs(text), runs(other)) >= SIMILARITY:
                found.add(number)
    return found
