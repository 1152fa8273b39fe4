"""Find the rows whose key another row has, in all shards: recordings of one utterance, of which one takes part.

Tasks look at the keys of one range of their hash each, since a row's copy may be in any shard. Where most files are
those of the previous version, they look only at keys that can have another answer than in it. Cost at 10 million
utterances on two cores: 3.0 CPU seconds for all keys, 1.0 where a month is added to 24.
"""

import math
from pathlib import Path

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import Counts, make_shards, parts, shard_names
from adc_pipeline.corpus.changes import Difference, moved
from adc_pipeline.corpus.keys import IS_UTTERANCE, Keys
from adc_pipeline.corpus.tables import READ, SET_ASIDE, create_read_rows

# Of several rows with one key the last recording stays, and among equals one that does not depend on the order in which
# they were read. A row that equals another in every field is no other recording. One that has the place and the time of
# a later recording is the same utterance, recorded earlier.
REASONS = IDENTICAL, EARLIER, REPEATED = "identical_row", "earlier_recording", "duplicate_id"
DUPLICATES = f"""
SELECT position, CASE WHEN same > 1 THEN '{IDENTICAL}' WHEN is_earlier THEN '{EARLIER}' ELSE '{REPEATED}' END AS reason
FROM (
    SELECT position, row_number() OVER (
        PARTITION BY key, conversation_id, recorded_at, timestamp, score, reply_to, speaker, text, title, distinguished,
            stickied, score_hidden, parent_kind ORDER BY position
    ) AS same, row_number() OVER ordered AS copy, recorded_at < first_value(recorded_at) OVER ordered
        AND conversation_id IS NOT DISTINCT FROM first_value(conversation_id) OVER ordered
        AND reply_to IS NOT DISTINCT FROM first_value(reply_to) OVER ordered
        AND timestamp IS NOT DISTINCT FROM first_value(timestamp) OVER ordered AS is_earlier
    FROM (SELECT *, {{key}} AS key FROM read_rows WHERE {{is_utterance}}) AS rows SEMI JOIN (
        SELECT key FROM (SELECT {{key}} AS key FROM read_rows WHERE {{is_utterance}}) AS keys {{only}}
        WHERE {{in_bucket}} GROUP BY key HAVING count(*) > 1
    ) AS repeated USING (key)
    WINDOW ordered AS (
        PARTITION BY key ORDER BY conversation_id IS NULL, recorded_at DESC NULLS LAST, timestamp, score DESC,
            conversation_id, reply_to, speaker, text, title, distinguished, stickied, score_hidden, position
    )
) WHERE copy > 1 ORDER BY position
"""  # noqa: S608

# Ids are grouped by so many at a time: their hash table takes about 100 bytes each.
IDS_AT_A_TIME = 20_000_000
IN_ORDER = "SELECT * FROM read_parquet($files, hive_partitioning = false) ORDER BY position"
IN_BUCKET = "hash(key) % {buckets} = {bucket}"

# A key has another answer than in the previous version only if a row of it is new or gone. Of the others, those are
# repeated that were; the previous version has set aside all of their rows but one.
ONLY = "SEMI JOIN (FROM candidates) AS candidates USING (key)"
CANDIDATES = """
SELECT key FROM read_parquet($changed, hive_partitioning = false)
UNION SELECT {key} AS key FROM read_rows SEMI JOIN (
    SELECT {moved} AS position FROM read_parquet($set_aside, hive_partitioning = false)
    WHERE list_contains($reasons, reason) AND because_of IS NULL AND ({kept})
) AS before USING (position)
"""


def write_duplicates(
    rows: Path, path: Path, work: Path, keys: Keys, engine: Engine, candidates: Path | None = None
) -> None:
    """Write the positions of rows whose key another row has, except the one row of each key that stays, with reasons.

    `work` keeps what finished tasks have found. Only the keys in the file `candidates` are looked at, by default all.
    """
    buckets = shard_names(max(1, math.ceil(row_count(parts(rows, READ)) / IDS_AT_A_TIME)))

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        bucket = IN_BUCKET.format(buckets=len(buckets), bucket=buckets.index(name)) if len(buckets) > 1 else "true"
        only = ONLY if candidates else ""
        query = DUPLICATES.format(key=keys.key, is_utterance=IS_UTTERANCE, only=only, in_bucket=bucket)
        with engine.connect(folder / "spill") as connection:
            create_read_rows(connection, rows)
            if candidates:
                connection.read_parquet(str(candidates), hive_partitioning=False).create_view("candidates")
            engine.write(connection, "finding duplicate ids", query, folder / path.name)
        return {}

    make_shards(buckets, make, work, engine, "range of ids")
    with engine.connect(path.with_suffix(".spill")) as connection:
        engine.write(connection, "joining duplicate ids", IN_ORDER, path, {"files": parts(work, path.name)})


def write_candidates(rows: Path, path: Path, keys: Keys, engine: Engine, difference: Difference, changed: Path) -> None:
    """Write the keys that can have several rows: those of rows that are new or gone, and those that had.

    The former are the file `changed` of `corpus.changes.write_changed_ids`.
    """
    kept = " OR ".join(f"position >= {begin} AND position < {end}" for begin, end, _ in difference.runs) or "false"
    query = CANDIDATES.format(key=keys.key, moved=moved(difference.runs, "position"), kept=kept)
    values = {"changed": str(changed), "set_aside": str(difference.previous / SET_ASIDE), "reasons": list(REASONS)}
    with engine.connect(path.with_suffix(".spill")) as connection:
        create_read_rows(connection, rows)
        engine.write(connection, "collecting ids that may be repeated", query, path, values)
