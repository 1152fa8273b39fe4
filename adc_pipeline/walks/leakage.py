"""Count the test conversations of a dataset whose root or text is also, or nearly, in its training split.

For the dataset's card. The evaluation compares the roots themselves (`evaluation.cases.leakage`) and excludes what it
finds. Here only the dataset is read: a root is the text before the background marker, without the line of the speaker.
Roots are equal by the same folding as there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.corpus.near_duplicates.minhash import FEW_WORDS
from adc_pipeline.corpus.near_duplicates.near_matches import FOLDED, near_matches
from adc_pipeline.walks.markers import FORMATS, FormatName
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LookedFor = Literal["auto", "none", "equal", "near"]
# `auto` looks for what is nearly alike in a dataset of up to so many walks, which takes some 5 s of a core at most.
MOST_WALKS = 100_000

# The first walk of each conversation. Markers are no words of anybody.
WALKED = """
CREATE TABLE walked AS
SELECT held_out,
    CASE WHEN $speaks THEN substr(root, strpos(root, chr(10)) + 1) ELSE root END AS root,
    CASE WHEN $replies THEN
        replace(replace(split_part(text, $background, 2), $rejected, ' '), $accepted, ' ') END AS replies
FROM (
    SELECT held_out, text, split_part(text, $background, 1) AS root FROM (
        SELECT walk, text, true AS held_out FROM read_parquet($test, hive_partitioning = false)
        UNION ALL SELECT walk, text, false FROM read_parquet($train, hive_partitioning = false)
    ) WHERE walk = 0
)
"""
# Folding a text costs more than all the rest, so that only roots with the same first five words are folded as a whole.
# The last word of a beginning may be cut off, so that a beginning has to hold a sixth.
EQUAL = """
WITH beginnings AS (
    SELECT rowid AS number, held_out, root, string_split(folded(left(root, 64)), ' ') AS words FROM walked
), begun AS (
    SELECT * REPLACE (CASE WHEN len(words) > 5 THEN words ELSE string_split(folded(root), ' ') END[:5] AS words)
    FROM beginnings
), shared AS (
    SELECT words FROM begun GROUP BY ALL HAVING bool_or(held_out) AND NOT bool_and(held_out)
), roots AS (
    SELECT number, held_out, folded(root) AS root FROM begun SEMI JOIN shared USING (words)
)
SELECT coalesce(list(number), []) AS numbers FROM roots
WHERE held_out AND root <> '' AND root IN (SELECT root FROM roots WHERE NOT held_out)
"""
ROOTS = "SELECT rowid AS number, held_out, root AS text FROM walked"
# So many words have a space fewer between them. LIKE stops at the last of these; cutting the text into words does not.
ENOUGH_WORDS = " ".join("%" * FEW_WORDS)
REPLIES = "SELECT rowid AS number, held_out, replies AS text FROM walked WHERE replies LIKE $words"


def count_leakage(
    files: Mapping[Split, Sequence[str]],
    format: FormatName,
    speakers: Speakers,
    looked_for: LookedFor,
    engine: Engine,
    spill: Path,
) -> dict[str, int]:
    """Return how many test conversations have an equal root in training, and how many more are nearly alike."""
    if looked_for == "none":
        return {}
    if looked_for == "auto":
        walks = row_count([file for split in files.values() for file in split])
        looked_for = "near" if walks <= MOST_WALKS else "equal"
    with engine.connect(spill) as connection:
        connection.execute(FOLDED)
        create_walked(connection, files, format, speakers, looked_for == "near")
        equal = set(only_row(connection, EQUAL)["numbers"])
        counts = {"leakage.equal_roots": len(equal)}
        if looked_for == "near":
            near = near_matches(connection, ROOTS) | near_matches(connection, REPLIES, {"words": ENOUGH_WORDS})
            counts["leakage.nearly_alike"] = len(near - equal)
    return counts


def create_walked(
    connection: "DuckDBPyConnection",
    files: Mapping[Split, Sequence[str]],
    format: FormatName,
    speakers: Speakers,
    replies: bool = True,
) -> None:
    """Create the table `walked`: root and, if `replies`, replies of each conversation of training and test split."""
    markers = FORMATS[format]
    values = {"background": markers.background, "rejected": markers.rejected, "accepted": markers.accepted}
    splits = {split: list(files[split]) for split in ("train", "test")}
    connection.execute(WALKED, {**values, **splits, "speaks": speakers != "none", "replies": replies})
