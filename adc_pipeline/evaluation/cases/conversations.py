"""Choose the conversations of a held-out split and read their trees, from which contexts are built.

Equal queries have one number: the contexts of a sibling group, a steering test and a walk are mostly the same text.
"""

from typing import TYPE_CHECKING

import numpy as np

from adc_pipeline.evaluation.arrays import Bools
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# `name` is the id, with its namespace where the id names several. Excluded conversations have the last numbers.
CHOSEN = """
CREATE TABLE chosen AS
SELECT * EXCLUDE (held_out, shared),
    CASE WHEN shared THEN namespace || conversation_id ELSE conversation_id END AS name,
    (row_number() OVER (ORDER BY excluded, md5(conversation_id), conversation_id, namespace) - 1) AS number
FROM (
    SELECT *, $exclude AND position IN (FROM repeated_roots) AS excluded FROM walked WHERE held_out
)
"""


REPLIES = """
CREATE TABLE replies AS
SELECT r.position, r.parent_position AS parent, r.id, r.reply_to, r.score, r.timestamp, r.rank,
    c.number AS conversation, u.segment, strlen(u.text) AS bytes,
    coalesce(s.mean, (SELECT mean FROM speaker_scores WHERE speaker IS NULL), 0) AS speaker_mean
FROM read_parquet($ranked, hive_partitioning = false) AS r JOIN chosen AS c USING (conversation_id)
    JOIN rendered_replies AS u ON u.position = r.position AND u.namespace = c.namespace
    JOIN (SELECT position, namespace, speaker FROM read_rows) AS written ON written.position = r.position
    LEFT JOIN speaker_scores AS s ON s.namespace = written.namespace AND s.speaker = written.speaker
WHERE c.number < $most
"""


ROOTS = """
SELECT c.number, u.segment FROM rendered_roots AS u JOIN chosen AS c USING (position) WHERE c.number < $most
"""


class Conversations:
    """The trees of the chosen conversations, from which contexts are built; replies are named by their positions."""

    def __init__(self, connection: "DuckDBPyConnection", most: int) -> None:
        self.background: dict[int, str] = dict(connection.execute(ROOTS, {"most": most}).fetchall())
        self.segment: dict[int, str] = {}
        self.parent: dict[int, int] = {}
        self.id: dict[int, str] = {}
        self.conversation: dict[int, int] = {}
        for position, parent, id, segment, conversation in connection.execute(
            "SELECT position, parent, id, segment, conversation FROM replies"
        ).fetchall():
            self.segment[position], self.parent[position], self.id[position] = segment, parent, id
            self.conversation[position] = conversation

    def ancestors(self, reply: int) -> tuple[tuple[str, Verdict], ...]:
        """Return the turns above a reply, topmost first, all accepted."""
        turns: list[tuple[str, Verdict]] = []
        while (reply := self.parent[reply]) in self.parent:
            turns.append((self.segment[reply], "accepted"))
        return tuple(reversed(turns))


class QueryNumbers:
    """Numbers queries from 0; equal queries with equal verdicts of their segments have one number."""

    def __init__(self) -> None:
        self.number_of: dict[tuple[Query, Verdict | None], int] = {}
        self.asked: set[int] = set()

    def verdict_after(self, query: Query, verdict: Verdict | None = None) -> int:
        """Number a query that only asks for the verdict after its segment."""
        return self.number_of.setdefault((query, verdict), len(self.number_of))

    def text_of(self, query: Query, verdict: Verdict | None = None) -> int:
        """Number a query whose segment's own log-probability is needed."""
        number = self.verdict_after(query, verdict)
        self.asked.add(number)
        return number

    def queries(self) -> list[Query]:
        return [query for query, _ in self.number_of]

    def own_verdicts(self) -> list[Verdict]:
        """Return the verdicts of the segments, which all have one where the model reads it before the turn."""
        return [verdict for _, verdict in self.number_of if verdict is not None]

    def ask_text(self) -> Bools:
        """Return which queries need their segment's log-probability, (queries,)."""
        asked = np.zeros(len(self.number_of), dtype=bool)
        asked[list(self.asked)] = True
        return asked
