"""Check that every walk of a dataset obeys the marker grammar, reading the dataset's files.

A walk is a background, the background marker, then turns without gaps between them, each closed by the marker of its
verdict; the last turn is accepted. The check finds the marker strings of each text and compares their offsets with
those that the turns record. In the default format there is no marker anywhere else.

Slicing a text at each turn's offsets would need memory and time of turns times text: a chain of 5,000 replies ran out
of 3 GB. One regular expression splits a text once instead, and only lengths are carried beyond the split, so that both
are linear in the text. DuckDB reads the row groups of a file with all threads.
"""

import re
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.walks.markers import FORMATS, FormatName

# A marker is written as its number in `$markers`. Marker strings begin with `<` and end with `>`, so that no two
# overlap, and splitting a text finds each one. The background counts as a part, like the turns after it.
WALKS = """
CREATE OR REPLACE TABLE walks AS
SELECT file_row_number AS walk, length(text) AS characters,
    list_transform(regexp_split_to_array(text, $any), lambda part: length(part)) AS lengths,
    list_transform(regexp_extract_all(text, $any), lambda found: list_position($markers, found)) AS markers,
    list_prepend(
        {start: 0, "end": turns[1].start - coalesce(length(turns[1].speaker) + 1, 0) - length($markers[1]), marker: 1},
        list_transform(turns, lambda turn: {
            start: turn.start - coalesce(length(turn.speaker) + 1, 0), "end": turn."end",
            marker: 1 + list_position(['rejected', 'accepted'], turn.verdict)})) AS parts
FROM read_parquet($file, hive_partitioning = false, file_row_number = true)
"""

# `size` is the length of a part's marker.
VIOLATIONS = """
WITH split AS (
    SELECT walk, unnest(lengths) AS length, unnest(markers) AS marker, generate_subscripts(lengths, 1) AS place
    FROM walks
), found AS (
    SELECT walk, marker, sum(length + coalesce(length($markers[marker]), 0)) OVER (PARTITION BY walk ORDER BY place)
        - length($markers[marker]) AS "end"
    FROM split
), parts AS (
    SELECT walk, characters, unnest(parts, recursive := true), generate_subscripts(parts, 1) AS place FROM walks
), linked AS (
    SELECT *, length($markers[marker]) AS size,
        lag("end" + length($markers[marker]), 1, 0) OVER walk AS previous, lead(place) OVER walk IS NULL AS last
    FROM parts WINDOW walk AS (PARTITION BY walk ORDER BY place)
)
SELECT count(DISTINCT walk) AS broken FROM (
    SELECT walk FROM linked
    WHERE start IS DISTINCT FROM previous OR start > "end"
        OR (last AND ("end" + size IS DISTINCT FROM characters OR marker IS DISTINCT FROM 3))
    UNION ALL SELECT walk FROM linked ANTI JOIN found USING (walk, "end", marker)
    UNION ALL SELECT walk FROM walks WHERE ($counted AND len(markers) <> len(parts))
)
"""

# A dataset may have several configurations, each a folder with other columns.
SHARED = """
SELECT count(*) AS shared FROM (
    SELECT conversation_id FROM (
        SELECT DISTINCT conversation_id, split_part(parse_filename(filename), '-', 1) AS split
        FROM read_parquet($files, filename = true, hive_partitioning = false, union_by_name = true)
    ) GROUP BY conversation_id HAVING count(*) > 1
)
"""


def grammar_violations(dataset: Path, format: FormatName, engine: Engine) -> int:
    """Return the number of walks in a dataset's folder that break the grammar."""
    markers = FORMATS[format].strings()
    marker = {"markers": list(markers)}
    any_marker = "|".join(re.escape(marker) for marker in markers)
    broken = 0
    with engine.connect() as connection:
        for file in sorted((dataset / "data").glob("*.parquet")):
            connection.execute(WALKS, {"file": str(file), "any": any_marker, **marker})
            # In the format `released`, texts keep the marker strings that users wrote.
            broken += only_row(connection, VIOLATIONS, {"counted": format == "default", **marker})["broken"]
    return broken


def conversations_in_two_splits(dataset: Path, engine: Engine) -> int:
    """Return the number of conversations in a dataset's folder that are in more than one split."""
    with engine.connect() as connection:
        return int(only_row(connection, SHARED, {"files": str(dataset / "*" / "*.parquet")})["shared"])
