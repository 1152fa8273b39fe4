"""Count in a sample of training walks what could be learned of verdicts: replies and walks that differ.

The rows of a split are in the order of a hash, so that the first ones are a random sample. Texts are compared without
white space and invisible signs. Of a long walk its beginning counts: a slice costs the characters before it.
"""

from collections.abc import Sequence
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row

WALKS, CHARACTERS = 1000, 20_000
# White space and invisible signs, as a regular expression of DuckDB.
BLANK = r"[\s\p{Z}\p{C}]+"

DIFFERENCES = """
WITH beginnings AS (
    SELECT row_number() OVER () AS row, left(text, $characters) AS text,
        list_filter(turns, lambda turn: turn."end" <= $characters) AS turns
    FROM (FROM read_parquet($files, hive_partitioning = false) LIMIT $walks)
), flat AS (
    SELECT row, generate_subscripts(turns, 1) AS place, unnest(list_transform(turns, lambda turn: {
        verdict: turn.verdict,
        score: turn.score,
        content: regexp_replace(substr(text, turn.start + 1, turn."end" - turn.start), $blank, '', 'g')
    })) AS turn
    FROM beginnings
), stepped AS (
    SELECT row, place, turn.verdict = 'accepted' AS accepted, turn.content AS content, turn.score AS score,
        coalesce(sum(accepted::INT) OVER (
            PARTITION BY row ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS step
    FROM flat
), compared AS (
    SELECT chosen.content = rejected.content AS same, chosen.score = rejected.score AS tied
    FROM stepped AS chosen JOIN stepped AS rejected USING (row, step) WHERE chosen.accepted AND NOT rejected.accepted
), walked AS (
    SELECT hash(list((accepted, content) ORDER BY place)) AS walk FROM stepped GROUP BY row
)
SELECT count(*) AS "sampled.rejected", coalesce(count_if(same), 0) AS "sampled.same_as_accepted",
    coalesce(count_if(tied), 0) AS "sampled.tied",
    (SELECT count(*) FROM walked) AS "sampled.walks", (SELECT count(DISTINCT walk) FROM walked) AS "sampled.different"
FROM compared
"""


def count_differences(files: Sequence[str], engine: Engine, spill: Path) -> dict[str, int]:
    """Return what the first walks of a split hold, as counts that `walks.learnable` reads.

    `sampled.rejected` are the rejected turns, of which `sampled.same_as_accepted` have the text of the accepted sibling
    and `sampled.tied` its score; `sampled.different` of the `sampled.walks` differ from one another.
    """
    with engine.connect(spill) as connection:
        sample = {"files": list(files), "walks": WALKS, "characters": CHARACTERS, "blank": BLANK}
        return only_row(connection, DIFFERENCES, sample)
