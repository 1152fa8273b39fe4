"""Check that every walk of a dataset obeys the marker grammar, reading the dataset's files.

A walk is a background, the background marker, then turns without gaps between them, each closed by the marker of its
verdict; the last turn is accepted. The check follows the recorded offsets from the start of a text to its end and
expects a marker at the end of each part. In the default format it also counts the markers, so that there is none
anywhere else.
"""

from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.walks.markers import FORMATS, FormatName

VIOLATIONS = """
WITH turns AS (
    SELECT rowid AS walk, text, unnest(turns) AS turn, generate_subscripts(turns, 1) AS place
    FROM (SELECT row_number() OVER () AS rowid, text, turns FROM read_parquet($files, hive_partitioning = false))
), placed AS (
    SELECT walk, text, place, turn.verdict AS verdict, turn."end" AS "end",
        turn.start - coalesce(length(turn.speaker) + 1, 0) AS start,
        CASE turn.verdict WHEN 'accepted' THEN $accepted WHEN 'rejected' THEN $rejected END AS marker
    FROM turns
), linked AS (
    SELECT *, lag("end" + length(marker)) OVER (PARTITION BY walk ORDER BY place) AS previous,
        lead(place) OVER (PARTITION BY walk ORDER BY place) IS NULL AS last,
        count(*) OVER (PARTITION BY walk) AS turns
    FROM placed
)
SELECT count(DISTINCT walk) AS broken FROM linked
WHERE marker IS NULL
    OR substr(text, "end" + 1, length(marker)) <> marker
    OR start > "end"
    OR (place = 1 AND substr(text, start + 1 - length($background), length($background)) <> $background)
    OR (place > 1 AND start <> previous)
    OR (last AND "end" + length(marker) <> length(text))
    OR (last AND verdict <> 'accepted')
    OR ($counted AND len(regexp_extract_all(text, $any)) <> turns + 1)
"""

SHARED = """
SELECT count(*) AS shared FROM (
    SELECT conversation_id FROM (
        SELECT DISTINCT conversation_id, filename FROM read_parquet($files, filename = true, hive_partitioning = false)
    ) GROUP BY conversation_id HAVING count(*) > 1
)
"""


def grammar_violations(dataset: Path, format: FormatName, engine: Engine) -> int:
    """Return the number of walks in a dataset's folder that break the grammar."""
    import re

    markers = FORMATS[format]
    parameters = {
        "files": str(dataset / "data" / "*.parquet"),
        "background": markers.background,
        "accepted": markers.accepted,
        "rejected": markers.rejected,
        # In the format `released`, texts keep the marker strings that users wrote.
        "counted": format == "default",
        "any": "|".join(re.escape(marker) for marker in markers.strings()),
    }
    with engine.connect() as connection:
        return int(only_row(connection, VIOLATIONS, parameters)["broken"])


def conversations_in_two_splits(dataset: Path, engine: Engine) -> int:
    """Return the number of conversations in a dataset's folder that are in more than one split."""
    with engine.connect() as connection:
        return int(only_row(connection, SHARED, {"files": str(dataset / "data" / "*.parquet")})["shared"])
