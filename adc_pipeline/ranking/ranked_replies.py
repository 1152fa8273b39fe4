"""From `utterances.parquet` to `ranked_replies.parquet`: the replies that stay, ranked among their siblings.

Every filter is a setting and is counted by its reason; a dropped reply takes its subtree with it, and
`dropped.parquet` names both, the subtree with `because_of` set to the dropped reply. Filters come before
ranks, so that a rank never has a gap. Cost: 0.15 s for 13,720 utterances.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adc_pipeline.engine import Engine, only_row


@dataclass(frozen=True)
class RankingSettings:
    """Settings of the asset `ranked_replies`; each filter drops a reply with its subtree."""

    deleted: bool = field(default=True, metadata={"description": "Drop replies whose text is [deleted] or [removed]."})
    empty: bool = field(default=True, metadata={"description": "Drop replies without text."})
    speakers: tuple[str, ...] = field(
        default=("AutoModerator",), metadata={"description": "Drop replies of these speakers."}
    )
    stickied: bool = field(
        default=True, metadata={"description": "Drop stickied replies, whose score is not comparable."}
    )
    score_hidden: bool = field(
        default=True, metadata={"description": "Drop replies whose score the source marks as hidden."}
    )
    min_score: int | None = field(default=None, metadata={"description": "Drop replies with a lower score than this."})
    min_score_gap: int | None = field(
        default=None,
        metadata={
            "description": "Drop the replies to an utterance, all of them, where the best leads the second by less."
        },
    )
    order: Literal["score", "released"] = field(
        default="score",
        metadata={
            "description": "score ranks every sibling group by score; released ranks only the replies to the"
            " root, by score, and takes deeper ones in the corpus' own order, as the public datasets do."
        },
    )


REPLIES = """
CREATE TABLE replies AS
SELECT position, parent_position AS parent, id, conversation_id, score, timestamp,
    CASE
        WHEN $deleted AND trim(text, $blank) IN ('[deleted]', '[removed]') THEN 'deleted'
        WHEN $empty AND trim(text, $blank) = '' THEN 'empty'
        WHEN list_contains($speakers, speaker) THEN 'speaker'
        WHEN $stickied AND stickied THEN 'stickied'
        WHEN $score_hidden AND score_hidden THEN 'score_hidden'
        WHEN score < $min_score THEN 'min_score'
    END AS reason
FROM read_parquet($utterances) WHERE NOT is_root
"""

# A gap exists only between two; a single reply has none to be too small.
GAPS = """
CREATE TABLE close_groups AS
SELECT parent FROM (
    SELECT parent, max(score, 2) AS best FROM replies WHERE reason IS NULL GROUP BY parent
) WHERE len(best) = 2 AND best[1] - best[2] < $min_score_gap
"""

DROPPED = """
CREATE TABLE dropped AS
WITH RECURSIVE offenders AS (
    SELECT position, coalesce(reason, 'min_score_gap') AS reason FROM replies
    WHERE reason IS NOT NULL OR parent IN (SELECT parent FROM close_groups)
), sound AS (
    SELECT position, parent FROM replies ANTI JOIN offenders USING (position)
), lost AS (
    SELECT position, reason, NULL::BIGINT AS because_of FROM offenders
    UNION ALL
    SELECT sound.position, lost.reason, coalesce(lost.because_of, lost.position)
    FROM lost JOIN sound ON sound.parent = lost.position
)
SELECT * FROM lost
"""

DEPTHS = """
CREATE TABLE kept AS
WITH RECURSIVE sound AS (
    SELECT position, parent FROM replies ANTI JOIN dropped USING (position)
), down AS (
    SELECT position, 1::BIGINT AS depth FROM sound SEMI JOIN (
        SELECT position FROM read_parquet($utterances) WHERE is_root
    ) AS root ON root.position = sound.parent
    UNION ALL
    SELECT sound.position, down.depth + 1 FROM down JOIN sound ON sound.parent = down.position
)
SELECT * FROM down
"""

# Equal scores go to the earlier, then to the smaller id; `released` knows positions only.
RANKED = """
COPY (
    SELECT r.id, r.conversation_id, u.id AS reply_to, r.score, r.timestamp, r.position,
        row_number() OVER siblings AS rank,
        count(*) OVER (PARTITION BY r.parent) AS siblings,
        kept.depth, r.parent AS parent_position
    FROM replies AS r JOIN kept USING (position)
    JOIN (SELECT position, id FROM read_parquet($utterances)) AS u ON u.position = r.parent
    WINDOW siblings AS (
        PARTITION BY r.parent
        ORDER BY CASE WHEN $order = 'score' OR kept.depth = 1 THEN r.score END DESC,
            CASE WHEN $order = 'score' THEN r.timestamp END,
            CASE WHEN $order = 'score' THEN r.id END,
            r.position
    )
    ORDER BY r.position
) TO $path (FORMAT parquet, COMPRESSION zstd)
"""

COUNTS = """
SELECT (SELECT count(*) FROM replies) AS replies,
    (SELECT count(*) FROM kept) AS ranked,
    (SELECT count(*) FROM dropped) AS dropped,
    (SELECT count(DISTINCT parent) FROM kept JOIN replies USING (position)) AS sibling_groups
"""

WRITE_DROPPED = """
COPY (
    SELECT r.id, r.conversation_id, d.reason, b.id AS because_of
    FROM dropped AS d JOIN replies AS r USING (position) LEFT JOIN replies AS b ON b.position = d.because_of
    ORDER BY d.position
) TO $path (FORMAT parquet, COMPRESSION zstd)
"""

# What counts as blank around a text: as in Python's str.strip, and the zero-width space.
BLANK = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u200b\u2028\u2029\u202f\u205f\u3000"
)


def write_ranked_replies(
    utterances: Path, out: Path, settings: RankingSettings | None = None, engine: Engine | None = None
) -> dict[str, int]:
    """Filter and rank the replies of the folder `utterances`, and write two Parquet files into the folder `out`.

    `ranked_replies.parquet` holds the replies that stay with `rank` (1 is best), `siblings` (how many are
    ranked together) and `depth` (1 answers the root); `dropped.parquet` the others. Returns the counts:
    `replies` = `ranked` + `dropped`, the latter also by reason.
    """
    settings, engine = settings or RankingSettings(), engine or Engine()
    source = {"utterances": str(utterances / "utterances.parquet")}
    filters = {
        "deleted": settings.deleted,
        "empty": settings.empty,
        "speakers": list(settings.speakers),
        "stickied": settings.stickied,
        "score_hidden": settings.score_hidden,
        "min_score": settings.min_score,
        "blank": BLANK,
    }
    with engine.connect(spill=out / "spill") as connection:
        connection.execute(REPLIES, source | filters)
        connection.execute(GAPS, {"min_score_gap": settings.min_score_gap})
        connection.execute(DROPPED)
        connection.execute(DEPTHS, source)
        path = {"path": str(out / "ranked_replies.parquet")}
        connection.execute(RANKED, source | path | {"order": settings.order})
        connection.execute(WRITE_DROPPED, {"path": str(out / "dropped.parquet")})
        counts = only_row(connection, COUNTS)
        reasons = connection.execute("SELECT reason, count(*) FROM dropped GROUP BY ALL ORDER BY ALL")
        return counts | {f"dropped.{reason}": number for reason, number in reasons.fetchall()}
