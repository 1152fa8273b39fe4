"""Follow the best replies of each conversation of a shard from its root, as the dialogues of `messages`."""

from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.preferences.prompts import TURN_CONTENTS
from adc_pipeline.preferences.settings import PreferenceSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The path ends with an assistant's message: a last one of the user's is left out.
BEST_PATH = """
CREATE TABLE best_path AS
WITH RECURSIVE best AS (SELECT parent, position FROM replies WHERE rank = 1), path AS (
    SELECT root, root AS position, 0 AS step FROM roots
    UNION ALL
    SELECT path.root, best.position, path.step + 1 FROM path JOIN best ON best.parent = path.position
)
SELECT * FROM path QUALIFY step < count(*) OVER (PARTITION BY root) // 2 * 2
"""
BEST_TEXTS = """
CREATE TABLE best_texts AS
SELECT root, list_transform(
    list_select(unsorted, list_grade_up(steps)), lambda each, turn: {content}) AS contents
FROM (
    SELECT root, list(step) AS steps, list(CASE WHEN step % 2 = 0 THEN segment ELSE content END) AS unsorted
    FROM best_path JOIN contents USING (position) GROUP BY root
) JOIN roots USING (root)
"""


def create_best_paths(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the tables `best_path` and `best_texts` of the tables `roots` and `replies`."""
    engine.run(connection, "following the best replies", BEST_PATH)
    engine.run(connection, "collecting the best replies", BEST_TEXTS.format(content=TURN_CONTENTS[settings.source]))
