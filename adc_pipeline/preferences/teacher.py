"""Write what the teacher of a distillation sees beside each group's prompt, and the student does not."""

from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.preferences.settings import PreferenceSettings, Privileged

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REJECTED = """
CREATE TABLE rejected AS
SELECT parent, position, height FROM answers WHERE score < best
QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, rank) <= $pairs_per_group
"""

SEEN_BY_TEACHER: dict[Privileged, str] = {
    "rejected": "CREATE VIEW seen_by_teacher AS FROM rejected",
    "replies": """
        CREATE TABLE seen_by_teacher AS
        SELECT answered AS parent, position, rank AS height
        FROM (SELECT parent AS answered, position AS best FROM answers WHERE height = 1) JOIN replies ON parent = best
        QUALIFY row_number() OVER (PARTITION BY answered ORDER BY rank) <= $pairs_per_group
    """,
}
HEADINGS: dict[Privileged, str] = {
    "rejected": "Other replies, which readers rated lower:",
    "replies": "What the reply was answered with:",
}
SEEN = """
CREATE TABLE seen AS
SELECT parent, array_to_string(list_select(unsorted, list_grade_up(heights)), getvariable('blank_line')) AS replies
FROM (
    SELECT parent, list(height) AS heights, list(content) AS unsorted
    FROM seen_by_teacher JOIN contents USING (position) GROUP BY parent
)
"""


def create_teachers_contexts(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the tables `rejected` and `seen` of the tables `answers` and `replies`."""
    per_group = {"pairs_per_group": settings.pairs_per_group}
    connection.execute(REJECTED, per_group)
    seen = SEEN_BY_TEACHER[settings.privileged]
    connection.execute(seen, per_group if settings.privileged == "replies" else None)
    engine.run(connection, "collecting the teacher's contexts", SEEN)
