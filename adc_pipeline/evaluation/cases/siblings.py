"""Cases about siblings: pairs of them, and turns to steer, each after its accepted ancestors."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adc_pipeline.evaluation.cases.case_sets import (
    Pairs,
    Steerings,
    table,
)
from adc_pipeline.evaluation.cases.conversations import Conversations, QueryNumbers
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


# Earlier replies have had more time to be seen. Matching on time takes, of the pairs written within an hour and about
# equally far apart (by powers of two of seconds), as many whose better reply is the earlier one as ones whose better
# reply is the later one; a fixed hash chooses. Pairs of equal times are kept.
# DialogRPT pairs neighbours in time; a rank there is a score's place among the distinct scores, from 0 to 1.
PAIRS = """
WITH ranked AS (
    SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, score, id, position) AS turn,
        (dense_rank() OVER (PARTITION BY parent ORDER BY score) - 1)
            / nullif(count(DISTINCT score) OVER (PARTITION BY parent) - 1, 0) AS height
    FROM replies
),
best AS (
    SELECT *, dense_rank() OVER (PARTITION BY conversation ORDER BY md5(reply_to), reply_to, parent) AS place
    FROM (SELECT *, count(*) OVER (PARTITION BY parent) AS shown FROM ranked WHERE rank <= $siblings)
    WHERE shown > 1
),
paired AS (
    SELECT a.conversation, a.position AS better, b.position AS worse, a.bytes AS better_bytes, b.bytes AS worse_bytes,
        a.score - b.score AS gap, coalesce(abs(a.timestamp - b.timestamp) <= 3600, false) AS within_hour,
        coalesce(a.timestamp > b.timestamp AND a.score >= 2 * b.score AND b.score >= 2, false) AS later_doubled,
        within_hour AND abs(a.turn - b.turn) = 1 AND gap >= 20 AND a.height - b.height >= 0.5 AS dialogrpt,
        coalesce(sign(a.timestamp - b.timestamp), 0) AS later,
        floor(log2(greatest(abs(a.timestamp - b.timestamp), 1))) AS apart,
        a.speaker_mean = b.speaker_mean AS speaker_free,
        coalesce(a.timestamp, 0) AS better_time, coalesce(b.timestamp, 0) AS worse_time,
        a.speaker_mean AS better_speaker, b.speaker_mean AS worse_speaker,
        row_number() OVER (
            ORDER BY a.conversation, a.reply_to, a.parent, a.rank, a.id, b.rank, b.id
        ) AS number,
        md5(a.id || '>' || b.id) AS shuffle
    FROM best AS a JOIN best AS b ON a.parent = b.parent AND a.score > b.score
    WHERE a.place <= $groups
),
matched AS (
    SELECT *, row_number() OVER (PARTITION BY within_hour, apart, later ORDER BY shuffle, number) AS place,
        least(count_if(later > 0) OVER alike, count_if(later < 0) OVER alike) AS most
    FROM paired WINDOW alike AS (PARTITION BY within_hour, apart)
)
SELECT conversation, better, worse, better_bytes, worse_bytes, gap, within_hour, later_doubled, dialogrpt,
    within_hour AND (later = 0 OR place <= most) AS time_matched, speaker_free,
    better_time, worse_time, better_speaker, worse_speaker
FROM matched ORDER BY number
"""

# The best-ranked sibling other than X, and the best-ranked reply to X.
STEERINGS = """
WITH steerable AS (
    SELECT x.conversation, x.position, x.id, s.position AS sibling, r.position AS reply,
        s.bytes AS sibling_bytes, r.bytes AS reply_bytes,
        row_number() OVER (PARTITION BY x.conversation ORDER BY md5(x.id), x.id, x.position) AS place
    FROM replies AS x
    JOIN replies AS s ON s.parent = x.parent AND s.rank = CASE x.rank WHEN 1 THEN 2 ELSE 1 END
    JOIN replies AS r ON r.parent = x.position AND r.rank = 1
)
SELECT conversation, position, sibling, reply, sibling_bytes, reply_bytes FROM steerable WHERE place <= $steering
ORDER BY conversation, id, position
"""


def pairs(
    connection: "DuckDBPyConnection", trees: Conversations, numbers: QueryNumbers, settings: EvaluationSettings
) -> Pairs:
    def rows() -> Iterator[tuple[Any, ...]]:
        caps = {"siblings": settings.max_siblings, "groups": settings.max_groups}
        found = connection.execute(PAIRS, caps).fetchall()
        groups: dict[int, dict[int, None]] = {}
        for _, better, worse, *_ in found:
            groups.setdefault(trees.parent[better], {}).update({better: None, worse: None})
        for conversation, better, worse, *rest in found:
            context = (trees.background[conversation], trees.ancestors(better))
            siblings = tuple(trees.segment[reply] for reply in groups[trees.parent[better]])
            queries = [
                numbers.verdict_after(Query(*context, trees.segment[reply], siblings)) for reply in (better, worse)
            ]
            yield (conversation, f"{trees.id[better]}>{trees.id[worse]}", *queries, *rest)

    return table(Pairs, rows())


def steerings(
    connection: "DuckDBPyConnection", trees: Conversations, numbers: QueryNumbers, settings: EvaluationSettings
) -> Steerings:
    verdicts: tuple[Verdict, Verdict] = ("rejected", "accepted")

    def rows() -> Iterator[tuple[Any, ...]]:
        caps = {"steering": settings.max_steering}
        for conversation, turn, sibling, reply, *sizes in connection.execute(STEERINGS, caps).fetchall():
            above, segment = trees.ancestors(turn), trees.segment[turn]
            queries = [
                numbers.text_of(
                    Query(trees.background[conversation], (*above, (segment, verdict)), trees.segment[next])
                )
                for next in (sibling, reply)
                for verdict in verdicts
            ]
            yield (conversation, trees.id[turn], *queries, *sizes)

    return table(Steerings, rows())
