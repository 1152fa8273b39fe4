"""How often length, time and speaker alone tell which of two replies of a dataset people preferred.

A model that is trained on the dataset shows something about its texts only beyond these. Pairs are turns of one sibling
group that a walk of the validation or test split shows, with different scores. A speaker's mean score is that of their
turns in the training split; a speaker who is not there has everybody's mean.

The rows of a split are in the order of a hash, so that the first ones are a random sample, and no more than `WALKS`
and `TRAINING_WALKS` are read. Only the times come from elsewhere: the dataset has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.markdown import table
from adc_pipeline.core.shards import parts
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import Split

WALKS, TRAINING_WALKS = 20_000, 200_000

TURNS = """
CREATE TABLE shown AS
WITH held_out AS (
    SELECT row_number() OVER () AS row, conversation_id, turns
    FROM (FROM read_parquet($held_out, hive_partitioning = false) LIMIT $walks)
), flat AS (
    SELECT row, conversation_id, unnest(turns) AS turn, generate_subscripts(turns, 1) AS place FROM held_out
)
SELECT conversation_id, turn.utterance_id AS id, turn.speaker AS speaker, turn.score AS score,
    turn."end" - turn.start AS characters, row,
    coalesce(sum((turn.verdict = 'accepted')::INT) OVER (
        PARTITION BY row ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS step
FROM flat
"""

PAIRS = """
WITH times AS (
    SELECT conversation_id, id, min(timestamp) AS timestamp FROM read_parquet($ranked, hive_partitioning = false)
        SEMI JOIN shown USING (conversation_id, id)
    GROUP BY ALL
), trained AS (
    SELECT unnest(turns) AS turn FROM (FROM read_parquet($train, hive_partitioning = false) LIMIT $training_walks)
), means AS (
    SELECT turn.speaker AS speaker, avg(turn.score) AS mean FROM trained WHERE turn.speaker <> '' GROUP BY ALL
), valued AS (
    SELECT shown.*, timestamp, coalesce(mean, (SELECT avg(turn.score) FROM trained), 0) AS mean
    FROM shown LEFT JOIN times USING (conversation_id, id) LEFT JOIN means USING (speaker)
), pairs AS (
    SELECT sign(a.characters - b.characters) AS length, coalesce(sign(b.timestamp - a.timestamp), 0) AS time,
        coalesce(abs(a.timestamp - b.timestamp) <= 3600, false) AS within_hour, sign(a.mean - b.mean) AS speaker
    FROM valued AS a JOIN valued AS b USING (row, step) WHERE a.score > b.score
)
SELECT length, time, within_hour, speaker FROM pairs
"""
# Of pairs with the sign of each baseline: above 0 where it prefers the reply with the higher score.
DECIDED = """
SELECT count(*) AS pairs, count_if(within_hour) AS within_hour,
    count_if(length <> 0) AS "length.decided", count_if(length > 0) AS "length.right",
    count_if(time <> 0) AS "time.decided", count_if(time > 0) AS "time.right",
    count_if(within_hour AND time <> 0) AS "hour.decided", count_if(within_hour AND time > 0) AS "hour.right",
    count_if(speaker <> 0) AS "speaker.decided", count_if(speaker > 0) AS "speaker.right"
FROM ({pairs})
"""
# Label of each baseline, its columns, and the column of the pairs that it is about.
ROWS = (
    ("length: the longer reply", "length", "pairs"),
    ("time: the earlier reply", "time", "pairs"),
    ("time, pairs written within an hour", "hour", "within_hour"),
    ("the speaker's mean score in the training split", "speaker", "pairs"),
)


@dataclass(frozen=True)
class Baseline:
    """What one baseline makes of the pairs: how many it decides, and how many of these rightly."""

    name: str
    pairs: int
    decided: int
    right: int


def dataset_baselines(dataset: Path, ranked: Path, engine: Engine) -> list[Baseline]:
    """Return the baselines that decide a pair of the dataset's validation and test splits."""
    held_out: tuple[Split, ...] = ("test", "validation")
    files = {"held_out": [file for split in held_out for file in split_files(dataset, split)], "walks": WALKS}
    values = {"train": split_files(dataset, "train"), "training_walks": TRAINING_WALKS}
    with engine.connect(dataset / "spill") as connection:
        engine.run(connection, "reading pairs", TURNS, files)
        query = DECIDED.format(pairs=PAIRS)
        return baselines_of(only_row(connection, query, values | {"ranked": parts(ranked, RANKED_REPLIES)}))


def baselines_of(found: Mapping[str, int]) -> list[Baseline]:
    """Return the baselines that decide a pair, from the row of `DECIDED`."""
    rows = [Baseline(name, found[of], found[f"{key}.decided"], found[f"{key}.right"]) for name, key, of in ROWS]
    return [row for row in rows if row.decided]


def baseline_rows(found: Sequence[Baseline]) -> list[tuple[str, str, str, str]]:
    """Return rows of a table: name, pairs, share of them that it decides, share of these that it decides rightly."""
    return [
        (each.name, f"{each.pairs:,}", f"{each.decided / each.pairs:.3f}", f"{each.right / each.decided:.3f}")
        for each in found
    ]


def baselines_section(found: Sequence[Baseline], pairs: str) -> str:
    """Return the section of a card about the baselines; empty if none decides a pair. `pairs` says of what."""
    if not found:
        return ""
    header = ["baseline", "pairs", "share that it decides", "of these correctly"]
    return (
        f"\n## Baselines\n\nHow often each of these alone tells which of two {pairs} has the higher score, in the"
        " validation and test splits. A model learned something from the texts only where it is better.\n\n"
        + table(header, baseline_rows(found), right=[1, 2, 3])
        + "\n"
    )
