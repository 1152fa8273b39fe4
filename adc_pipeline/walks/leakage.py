"""Count the test conversations of a dataset whose root or text is also, or nearly, in its training split.

For the dataset's card. The evaluation compares the roots themselves (`evaluation.leakage`) and excludes what it finds.
Here only the dataset is read: a root is the text before the background marker, without the line of the speaker. Texts
are compared without case and punctuation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adc_pipeline.core.engine import Engine
from adc_pipeline.corpus.near_duplicates import WORD, near_pairs
from adc_pipeline.walks.markers import FORMATS, FormatName
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LookedFor = Literal["none", "equal", "near"]
# The first walk of each conversation. Markers are no words of anybody.
TEXTS = """
SELECT conversation_id, any_value(split_part(text, $background, 1)),
    any_value(replace(replace(substr(text, strpos(text, $background) + length($background)), $rejected, ' '),
        $accepted, ' '))
FROM read_parquet($file, hive_partitioning = false) WHERE walk = 0 GROUP BY ALL ORDER BY conversation_id
"""


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
    with engine.connect(spill) as connection:
        train, test = (read(connection, files[split], format, speakers) for split in ("train", "test"))
        folded = {fold(root) for _, root, _ in train} - {""}
        equal = {id for id, root, _ in test if fold(root) in folded}
        counts = {"leakage.equal_roots": len(equal)}
        if looked_for == "near":
            near: set[str] = set()
            for place in (1, 2):
                texts = [each[place] for each in [*train, *test]]
                pairs = near_pairs(connection, texts)
                near |= {test[later - len(train)][0] for later, first in pairs if first < len(train) <= later}
            counts["leakage.nearly_alike"] = len(near - equal)
    return counts


def read(
    connection: "DuckDBPyConnection", files: Sequence[str], format: FormatName, speakers: Speakers
) -> list[tuple[str, str, str]]:
    """Return id, root and replies of each conversation."""
    markers = FORMATS[format]
    values = {"background": markers.background, "rejected": markers.rejected, "accepted": markers.accepted}
    rows = connection.execute(TEXTS, {"file": list(files), **values}).fetchall()
    return [(id, root if speakers == "none" else root.partition("\n")[2], text) for id, root, text in rows]


def fold(text: str) -> str:
    """Return the words of a text in lower case."""
    return " ".join(WORD.findall(text.lower()))
