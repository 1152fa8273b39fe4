"""Pairs of siblings that a judge is fitted, chosen and tested on."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.shards import parts
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.splits import Shares, Split, split_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


# Pairs of one sibling group, and siblings, best-ranked first, that they are made of.
PAIRS_OF_GROUP, SIBLINGS = 4, 5

PAIRS = """
WITH ranked AS (
    SELECT conversation_id, position, parent_position AS parent, id, score
    FROM read_parquet($ranked, hive_partitioning = false)
    WHERE {split} = $split AND rank <= $siblings
), pairs AS (
    SELECT a.conversation_id, parent, a.position AS better, b.position AS worse, md5(a.id || '>' || b.id) AS place
    FROM ranked AS a JOIN ranked AS b USING (parent) WHERE a.score > b.score
    QUALIFY row_number() OVER (PARTITION BY parent ORDER BY place, better, worse) <= $pairs
)
SELECT p.conversation_id, a.text, b.text, p.parent
FROM (FROM pairs ORDER BY place, better, worse LIMIT $most) AS p
    JOIN rendered_replies AS a ON a.position = p.better
    JOIN rendered_replies AS b ON b.position = p.worse
ORDER BY p.place, p.better, p.worse
"""

# What siblings reply to: the title and text of a post, or a reply.
POSTS = """
SELECT position, segment FROM rendered_roots SEMI JOIN (SELECT unnest($positions) AS position) USING (position)
UNION ALL
SELECT position, text FROM rendered_replies SEMI JOIN (SELECT unnest($positions) AS position) USING (position)
    ANTI JOIN (SELECT position FROM rendered_roots) USING (position)
"""


@dataclass(frozen=True)
class Pairs:
    """Texts of two siblings each, the first with the higher score, and their conversations; lists of (pairs,).

    `post` is what they reply to, where a reward model reads it.
    """

    conversation: list[str]
    better: list[str]
    worse: list[str]
    parent: list[int] = field(default_factory=list)  # position of the utterance that they reply to
    post: list[str] = field(default_factory=list)


def first(pairs: Pairs, most: int) -> Pairs:
    """Return the first pairs, which are a choice by hash."""
    return Pairs(*(getattr(pairs, each.name)[:most] for each in fields(pairs)))


def with_posts(connection: "DuckDBPyConnection", pairs: Pairs) -> Pairs:
    """Return the pairs with what they reply to."""
    found = dict(connection.execute(POSTS, {"positions": sorted(set(pairs.parent))}).fetchall())
    return replace(pairs, post=[found.get(position, "") for position in pairs.parent])


def read_pairs(connection: "DuckDBPyConnection", ranked: Path, shares: Shares, split: Split, most: int) -> Pairs:
    """Read at most `most` pairs of siblings of one split, chosen and ordered by a hash of their ids."""
    query = PAIRS.format(split=split_sql("conversation_id", shares))
    values = {"ranked": parts(ranked, RANKED_REPLIES), "split": split, "most": most}
    rows = connection.execute(query, values | {"siblings": SIBLINGS, "pairs": PAIRS_OF_GROUP}).fetchall()
    return Pairs(*(list(column) for column in zip(*rows, strict=True))) if rows else Pairs([], [], [])
