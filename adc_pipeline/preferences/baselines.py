"""How often length, time and speaker alone tell which reply of a pair people preferred.

The pairs are those of the validation and test splits, and the figures those of the datasets of walks
(`walks.baselines`). A speaker's mean score is that of their ranked replies in the training split, whether or not these
are in a pair; a speaker without any has everybody's mean. The dataset names no speakers, so they are looked up.

The rows of a split are in the order of a hash, so that the first `PAIRS` are a random sample.
"""

from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.tables import create_read_rows
from adc_pipeline.preferences.settings import Form, PreferenceSettings
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.baselines import DECIDED, Baseline, baselines_of
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import Split, split_sql

PAIRS = 20_000
# The text of a reply, of a column.
TEXT: dict[Form, str] = {"conversational": "{0}[1].content", "text": "{0}"}

HELD_OUT = """
CREATE TABLE held_out AS
SELECT conversation_id, chosen_id, rejected_id, sign(length({chosen}) - length({rejected})) AS length,
    CASE WHEN seconds_apart = 0 THEN 0 WHEN chosen_is_later THEN -1 ELSE 1 END AS time,
    seconds_apart <= 3600 AS within_hour
FROM (FROM read_parquet($held_out, hive_partitioning = false) LIMIT $pairs)
"""

MEANS = """
CREATE TABLE means AS
WITH ids AS (
    SELECT DISTINCT conversation_id, unnest([chosen_id, rejected_id]) AS id FROM held_out
), named AS (
    SELECT conversation_id, id, min(speaker) AS speaker
    FROM (SELECT position, conversation_id, id FROM ranked SEMI JOIN ids USING (conversation_id, id))
        JOIN (SELECT position, speaker FROM read_rows) USING (position)
    GROUP BY ALL
), trained AS (
    SELECT conversation_id FROM (SELECT DISTINCT conversation_id FROM ranked) WHERE {split} = 'train'
), scored AS (
    SELECT position, score FROM ranked SEMI JOIN trained USING (conversation_id)
), known AS (
    SELECT speaker, avg(score) AS mean
    FROM (SELECT position, speaker FROM read_rows SEMI JOIN named USING (speaker)) JOIN scored USING (position)
    WHERE speaker <> '' GROUP BY speaker
)
SELECT conversation_id, id, coalesce(mean, (SELECT avg(score) FROM scored), 0) AS mean
FROM named LEFT JOIN known USING (speaker)
"""

VALUED = """
SELECT length, time, within_hour, sign(c.mean - r.mean) AS speaker
FROM held_out
    JOIN means AS c ON c.conversation_id = held_out.conversation_id AND c.id = chosen_id
    JOIN means AS r ON r.conversation_id = held_out.conversation_id AND r.id = rejected_id
"""


def pair_baselines(
    dataset: Path, utterances: Path, ranked: Path, settings: PreferenceSettings, engine: Engine
) -> list[Baseline]:
    """Return the baselines that decide a pair of the dataset's validation and test splits."""
    held_out: tuple[Split, ...] = ("test", "validation")
    files = {"held_out": [file for split in held_out for file in split_files(dataset, split, "pairs")], "pairs": PAIRS}
    texts = {name: TEXT[settings.form].format(name) for name in ("chosen", "rejected")}
    with engine.connect(dataset / "spill") as connection:
        create_read_rows(connection, utterances)
        connection.read_parquet(parts(ranked, RANKED_REPLIES), hive_partitioning=False).create_view("ranked")
        engine.run(connection, "reading pairs", HELD_OUT.format(**texts), files)
        split = split_sql("conversation_id", settings.shares)
        engine.run(connection, "averaging scores of speakers", MEANS.format(split=split))
        return baselines_of(only_row(connection, DECIDED.format(pairs=VALUED)))
