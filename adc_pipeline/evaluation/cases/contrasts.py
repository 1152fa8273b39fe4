"""Cases that tell reading a rejected reply from counting it: three siblings, and a stranger in place of the first.

That a rejected reply in the context helps to predict the accepted one does not show that it was read: any text of the
topic's kind helps a little, and so does the marker, which tells where a history ends. Two controls take this away. The
first is a contrast of two other siblings: reading the rejected one should help the sibling that is better than it, and
not the one that is worse. The second is a stranger: a reply of another conversation, of nearly the same length, shown
as rejected in its place. What remains, the contrast after the own reply minus that after the stranger, is neither
length, nor position, nor the marker, nor what makes the better sibling likelier by itself.

A group of siblings gives a case if it has a reply whose score lies between its best and its worst. That reply is shown;
a fixed hash chooses among several, and among the groups of a conversation. Every conversation gives its first group
before one gives a second.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adc_pipeline.evaluation.cases.conversations import Conversations, QueryNumbers
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CONTRASTS = """
WITH spread AS (
    SELECT conversation, parent, any_value(reply_to) AS reply_to, max(score) AS best, min(score) AS worst
    FROM replies GROUP BY conversation, parent HAVING count(DISTINCT score) > 2
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY conversation ORDER BY md5(reply_to), reply_to, parent) AS place
    FROM spread
)
SELECT g.conversation,
    arg_min(r.position, md5(r.id)) FILTER (r.score > g.worst AND r.score < g.best) AS shown,
    arg_min(r.position, r.rank) AS better, arg_max(r.position, r.rank) AS worse
FROM (FROM placed ORDER BY place, conversation LIMIT $contrasts) AS g JOIN replies AS r USING (conversation, parent)
GROUP BY g.conversation, parent, g.place ORDER BY g.conversation, g.place
"""


class Strangers:
    """Replies of the evaluated conversations by length, to find for each the nearest of another conversation."""

    def __init__(self, conversation_of: Mapping[int, int], segment_of: Mapping[int, str]) -> None:
        self.conversation_of, self.segment_of = conversation_of, segment_of
        self.order = sorted((len(text.encode()), position) for position, text in segment_of.items())

    def of(self, segment: str, conversation: int) -> str | None:
        """Return the segment of another conversation's reply that is nearest in length; None if there is none.

        Of two that are equally near, the shorter one; never an equal text.
        """
        size = len(segment.encode())
        right = bisect_left(self.order, (size, -1))
        left = right - 1
        while left >= 0 or right < len(self.order):
            shorter = size - self.order[left][0] if left >= 0 else math.inf
            longer = self.order[right][0] - size if right < len(self.order) else math.inf
            _, position = self.order[left if shorter <= longer else right]
            left, right = (left - 1, right) if shorter <= longer else (left, right + 1)
            if self.conversation_of[position] != conversation and self.segment_of[position] != segment:
                return self.segment_of[position]
        return None


def contrast_rows(
    connection: "DuckDBPyConnection",
    trees: Conversations,
    numbers: QueryNumbers,
    strangers: Strangers,
    most: int,
    own_verdict: Verdict | None,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `case_sets.Contrasts`, at most `most`.

    `own_verdict` is the verdict that both siblings are read after, where the model reads a verdict before its turn.
    """
    for conversation, shown, better, worse in connection.execute(CONTRASTS, {"contrasts": most}).fetchall():
        stranger = strangers.of(trees.segment[shown], conversation)
        if stranger is None:
            continue
        background, above = trees.background[conversation], trees.ancestors(shown)
        rejected: Verdict = "rejected"
        contexts = (above, (*above, (trees.segment[shown], rejected)), (*above, (stranger, rejected)))
        queries = [
            numbers.text_of(Query(background, turns, trees.segment[sibling]), own_verdict)
            for turns in contexts
            for sibling in (better, worse)
        ]
        sizes = (len(trees.segment[sibling].encode()) for sibling in (better, worse))
        case = f"{trees.id[shown]}:{trees.id[better]}>{trees.id[worse]}"
        yield (conversation, case, *queries, *sizes)
