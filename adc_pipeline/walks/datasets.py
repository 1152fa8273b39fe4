"""From ranked replies to a dataset of walks, in Parquet, as `datasets.load_dataset` finds it.

Both walks are one set-based computation. For every sibling group the coins decide two ranks: which reply
is accepted, and down to which rank replies are shown (random-walk: down to the accepted one; top-2: the
best, and with it the second where its coin says so). A walk is then the path from the root along the
accepted replies, and its turns are the shown replies of each group on the path, the accepted one last.
Cost: 0.2 s a dataset for 13,720 utterances.

Rows are ordered by a hash of the conversation id, so that neither the order of the source nor the number
of threads reaches the bytes.
"""

from dataclasses import dataclass, field
from pathlib import Path

from adc_pipeline.engine import Engine, only_row
from adc_pipeline.errors import PipelineError
from adc_pipeline.walks.coins import WalkKind, coin_sql
from adc_pipeline.walks.markers import FormatName
from adc_pipeline.walks.rendering import Speakers, create_rendered
from adc_pipeline.walks.splits import DEFAULT_SHARES, SPLITS, Split, split_sql


@dataclass(frozen=True)
class WalkSettings:
    """Settings of the assets `top_2` and `random_walk`."""

    seed: int = field(default=0, metadata={"description": "Seed of the coins."})
    walks_per_conversation: int = field(
        default=1, metadata={"description": "Walks drawn from each conversation, with numbers from 0."}
    )
    format: FormatName = field(
        default="default", metadata={"description": "Spelling of the markers: default or released."}
    )
    speakers: Speakers = field(
        default="names",
        metadata={"description": "What stands for a speaker: names, pseudonyms (user1, user2, …) or none."},
    )
    shares: tuple[int, ...] = field(
        default=DEFAULT_SHARES,
        metadata={"description": "Per cent of the conversations in train, validation and test."},
    )

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or sum(self.shares) != 100 or min(self.shares) < 0:
            raise PipelineError(
                f"shares is {list(self.shares)}: give three whole per cents for train, validation and test"
                " that add up to 100."
            )
        if self.walks_per_conversation < 1:
            raise PipelineError("walks_per_conversation must be at least 1.")


CHOICES: dict[WalkKind, str] = {
    "top-2": """
        CREATE TABLE choices AS
        SELECT walk, parent_position AS parent, position AS next, 1 AS accepted,
            CASE WHEN siblings > 1 AND {coin} THEN 2 ELSE 1 END AS shown
        FROM ranked CROSS JOIN range($walks) AS drawn (walk) WHERE rank = 1
    """,
    "random-walk": """
        CREATE TABLE choices AS
        SELECT walk, parent, arg_min(position, rank) AS next, min(rank) AS accepted, min(rank) AS shown
        FROM (
            SELECT walk, parent_position AS parent, position, rank
            FROM ranked CROSS JOIN range($walks) AS drawn (walk)
            WHERE rank = siblings OR NOT {coin}
        ) GROUP BY walk, parent
    """,
}

# The utterance whose coin decides: the one whose replies are chosen from, or each reply.
FLIPPED: dict[WalkKind, str] = {"top-2": "reply_to", "random-walk": "id"}

PATH = """
CREATE TABLE path AS
WITH RECURSIVE path AS (
    SELECT choices.*, root.position AS root, 1 AS step
    FROM choices JOIN rendered AS root ON root.position = choices.parent AND root.is_root
    UNION ALL
    SELECT choices.*, path.root, path.step + 1
    FROM path JOIN choices ON choices.parent = path.next AND choices.walk = path.walk
)
SELECT * FROM path
"""

TURNS = """
CREATE TABLE turns AS
SELECT path.root, path.walk, path.step, r.id, r.score, r.rank, r.siblings, r.position,
    CASE WHEN r.rank = path.accepted THEN 'accepted' ELSE 'rejected' END AS verdict,
    row_number() OVER (
        PARTITION BY path.root, path.walk ORDER BY path.step, r.rank = path.accepted, r.rank
    ) AS place
FROM path JOIN ranked AS r ON r.parent_position = path.parent AND r.rank <= path.shown
"""

# `ends` counts the characters up to and including a turn's marker, the background's before them.
WALKS = """
CREATE TABLE walks AS
WITH spelt AS (
    SELECT turns.* EXCLUDE (marker), u.speaker, length(u.text) AS characters, u.segment || marker AS segment,
        length(marker) AS marker
    FROM (
        SELECT *, CASE verdict WHEN 'accepted' THEN getvariable('accepted')
                               ELSE getvariable('rejected') END AS marker
        FROM turns
    ) AS turns JOIN rendered AS u USING (position)
), placed AS (
    SELECT *, sum(length(segment)) OVER (PARTITION BY root, walk ORDER BY place) AS ends FROM spelt
), joined AS (
    SELECT root, walk, string_agg(segment, '' ORDER BY place) AS segments,
        list((id, speaker, verdict, score, rank, siblings, ends - marker - characters, ends - marker)
            ORDER BY place) AS turns
    FROM placed GROUP BY root, walk
)
SELECT {split} AS split, md5(u.conversation_id) AS shuffle,
    u.segment || getvariable('background') || segments AS text, u.conversation_id, joined.walk, u.source,
    list_transform(turns, lambda turn: {{
        utterance_id: turn[1], speaker: turn[2], verdict: turn[3], score: turn[4], rank: turn[5],
        siblings: turn[6], start: turn[7]::BIGINT + head, "end": turn[8]::BIGINT + head}}) AS turns
FROM (SELECT *, length(segment) + length(getvariable('background')) AS head FROM rendered WHERE is_root) AS u
JOIN joined ON joined.root = u.position
"""

WRITE = """
COPY (
    SELECT text, conversation_id, walk, source, turns FROM walks WHERE split = $split
    ORDER BY shuffle, conversation_id, walk
) TO $path (FORMAT parquet, COMPRESSION zstd)
"""

COUNTS = """
SELECT (SELECT count(*) FROM walks) AS walks,
    (SELECT count(*) FROM walks WHERE split = 'train') AS "walks.train",
    (SELECT count(*) FROM walks WHERE split = 'validation') AS "walks.validation",
    (SELECT count(*) FROM walks WHERE split = 'test') AS "walks.test",
    (SELECT count(DISTINCT conversation_id) FROM walks) AS conversations,
    (SELECT count(*) FROM turns) AS turns,
    (SELECT count(*) FROM turns WHERE verdict = 'accepted') AS "turns.accepted",
    (SELECT count(*) FROM turns WHERE verdict = 'rejected') AS "turns.rejected",
    (SELECT count(*) FROM rendered WHERE is_root)
        - (SELECT count(DISTINCT conversation_id) FROM walks) AS conversations_without_replies,
    (SELECT count(*) FROM read_parquet(getvariable('utterances'))
        WHERE neutral(text) <> text OR neutral(speaker) <> speaker OR neutral(title) <> title
    ) AS texts_with_markers_neutralised
"""


def split_file(split: Split) -> str:
    """Where a split lies inside a dataset's folder."""
    return f"data/{split}-00000-of-00001.parquet"


def write_walks(
    kind: WalkKind,
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: WalkSettings | None = None,
    engine: Engine | None = None,
) -> dict[str, int]:
    """Write the walks of the folders `utterances` and `ranked` as `out/data/SPLIT-00000-of-00001.parquet`.

    One row a walk: `text`, `conversation_id`, `walk`, `source`, and `turns`, a list of {`utterance_id`,
    `speaker`, `verdict`, `score`, `rank`, `siblings`, `start`, `end`}, where `text[start:end]` is the
    turn's text and the marker follows at `end`. Returns counts of walks, turns and conversations.
    """
    settings, engine = settings or WalkSettings(), engine or Engine()
    (out / "data").mkdir(parents=True, exist_ok=True)
    with engine.connect(spill=out / "spill") as connection:
        create_rendered(connection, utterances, settings.format, settings.speakers)
        connection.execute("SET VARIABLE seed = $1", [settings.seed])
        path = {"path": str(ranked / "ranked_replies.parquet")}
        connection.execute("CREATE TABLE ranked AS FROM read_parquet($path)", path)
        choices = CHOICES[kind].format(coin=coin_sql(kind, "walk", FLIPPED[kind]))
        connection.execute(choices, {"walks": settings.walks_per_conversation})
        connection.execute(PATH)
        connection.execute(TURNS)
        train, validation, test = settings.shares
        connection.execute(WALKS.format(split=split_sql("u.conversation_id", (train, validation, test))))
        for split in SPLITS:
            connection.execute(WRITE, {"split": split, "path": str(out / split_file(split))})
        return only_row(connection, COUNTS)
