"""Choose the pairs of each group of a shard: two replies with different scores, as the settings ask.

Pairs compare the score that replies are ranked by, not the rank: replies with equal scores make no pair, although time
has put one of them first.

All pairs of a group of n replies are n² / 2. `pairs: all` therefore compares `replies_per_group` replies of a larger
group, chosen by hash. `pairs_per_group` of the pairs are kept: those with the smallest sum of the two replies' hashes,
modulo 2**32. The hash of a reply is the first 8 hexadecimal digits of the MD5 of ``SEED:preferences:ID``, as a number.
One hash a reply is much cheaper than one a pair, and every pair of a group is equally likely to be kept.
"""

from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.preferences.settings import Margin, Pairs, PreferenceSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Of a large group a few replies, so that the number of its pairs is bounded.
FEW = """
CREATE TABLE few AS
SELECT parent, score, timestamp, rank, digest FROM answers
QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, rank) <= $replies_per_group
"""

# Each gives the two replies as `c` and `r`; that c has the higher score follows.
COMPARED: dict[Pairs, str] = {
    "all": "few AS c JOIN few AS r ON c.parent = r.parent",
    "best-rest": "answers AS c JOIN answers AS r ON c.parent = r.parent AND c.height = 1",
    "adjacent": "answers AS c JOIN answers AS r ON c.parent = r.parent AND r.height = c.height + 1",
    "consecutive": """
        (SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, id) + unnest([-1, 1]) AS next
         FROM answers) AS c
        JOIN (SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, id) AS turn FROM answers) AS r
            ON c.parent = r.parent AND r.turn = c.next
    """,
}

# Most candidates are not kept, so that they have no more columns than the choice needs.
CANDIDATES = """
CREATE TABLE candidates AS
SELECT c.parent, (c.digest + r.digest) % 4294967296 AS digest, c.rank AS chosen, r.rank AS rejected
FROM {compared}
WHERE c.score > r.score AND c.score::HUGEINT - r.score >= $min_score_gap
    AND ($min_score_ratio IS NULL OR (c.score > 0 AND c.score::DOUBLE >= $min_score_ratio * r.score::DOUBLE))
    AND ($within_seconds IS NULL OR abs(c.timestamp - r.timestamp) <= $within_seconds)
    AND (c.timestamp >= r.timestamp OR NOT $later_only)
"""
# A gap between two scores of 64 bits may need more; the column has the largest that it can hold.
PAIRS_KEPT = """
CREATE TABLE pairs AS
SELECT c.parent, c.position AS chosen, r.position AS rejected, c.score AS score_chosen, r.score AS score_rejected,
    least(c.score::HUGEINT - r.score, 9223372036854775807)::BIGINT AS score_gap, c.id AS chosen_id, r.id AS rejected_id,
    c.rank AS rank_chosen, r.rank AS rank_rejected, abs(c.timestamp - r.timestamp) AS seconds_apart,
    c.timestamp > r.timestamp AS chosen_is_later, c.characters > r.characters AS chosen_is_longer {margin}
FROM (
    FROM candidates
    QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, chosen, rejected) <= $pairs_per_group
) AS kept
JOIN answers AS c ON c.parent = kept.parent AND c.rank = kept.chosen
JOIN answers AS r ON r.parent = kept.parent AND r.rank = kept.rejected
"""
# Scores below 1 count as 1, which has a logarithm. Llama 2 (Touvron et al. 2023) uses margins of up to 3.
MARGINS: dict[Margin, str] = {
    "none": "",
    "log": ", least(ln(greatest(c.score, 1)::DOUBLE / greatest(r.score, 1)), 3.0) AS margin",
}


def create_pairs(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the tables `candidates` and `pairs` of the table `answers`."""
    connection.execute(FEW, {"replies_per_group": settings.replies_per_group})
    candidates = CANDIDATES.format(compared=COMPARED[settings.pairs])
    of_pairs = {
        "min_score_gap": settings.min_score_gap,
        "min_score_ratio": settings.min_score_ratio,
        "within_seconds": settings.within_seconds,
        "later_only": settings.later_only,
    }
    engine.run(connection, "comparing replies", candidates, of_pairs)
    kept = PAIRS_KEPT.format(margin=MARGINS[settings.margin])
    engine.run(connection, "choosing pairs", kept, {"pairs_per_group": settings.pairs_per_group})
