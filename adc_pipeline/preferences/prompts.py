"""Write the prompt of each group of a shard: the path from the root to the utterance that is answered, within limits.

Paths are found upwards from all groups at once, `max_turns` joins of integers at most, and texts are joined last. Going
down from the roots would take as many joins as the deepest thread has replies.
"""

from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.preferences.settings import Form, PreferenceSettings, SourceIn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Each step of a recursion reads what it joins again: a table of two columns is much cheaper than the file.
ABOVE = "CREATE TABLE above AS SELECT position, parent_position FROM ranked WHERE depth > 1"

# `step` counts upwards from the utterance that is answered; the root's is max_turns, wherever it is.
CONTEXT = """
CREATE TABLE context AS
WITH RECURSIVE path AS (
    SELECT parent, parent AS position, 0 AS step FROM groups WHERE depth > 1
    UNION ALL
    SELECT path.parent, above.parent_position, path.step + 1
    FROM path JOIN above USING (position)
    WHERE path.step + 2 < $max_turns
), bounded AS (
    SELECT parent, position, step, length(segment) AS characters,
        CASE WHEN parent = position AND step > 0 THEN $max_characters ELSE $max_characters // 2 END AS most
    FROM (FROM path UNION ALL SELECT parent, root, $max_turns FROM groups) JOIN contents USING (position)
)
SELECT *, sum(least(characters, most)) OVER (PARTITION BY parent ORDER BY step < $max_turns, step) AS total
FROM bounded
QUALIFY step = 0 OR step = $max_turns OR total <= $max_characters
"""

PROMPTS = """
CREATE TABLE prompts AS
SELECT parent, {prompt} AS prompt, turns < depth OR cut AS shortened, source, conversation_id, split, place
FROM (
    SELECT groups.*, turns, cut, list_transform(
        list_select(unsorted, list_grade_up(steps, 'DESC')), lambda each, turn: {content}) AS contents
    FROM (
        SELECT parent, count(*) AS turns, bool_or(characters > most) AS cut, list(step) AS steps,
            list(left(segment, most)) AS unsorted
        FROM context JOIN contents USING (position) GROUP BY parent
    ) JOIN groups USING (parent)
)
"""
# Roles are counted backwards: the utterance that is answered is the user's.
PROMPT_FORMS: dict[Form, str] = {
    "conversational": "list_transform(contents, lambda content, turn: {role:"
    " CASE WHEN (len(contents) - turn) % 2 = 0 THEN 'user' ELSE 'assistant' END, content: content})",
    "text": "array_to_string(contents, getvariable('blank_line')) || getvariable('blank_line')",
}
# Of a turn of a prompt or a dialogue, which begins with the root.
TURN_CONTENTS: dict[SourceIn, str] = {
    "none": "each",
    "in_prompt": "CASE WHEN turn = 1 THEN 'Community: ' || source || getvariable('blank_line') ELSE '' END || each",
}


def create_prompts(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the table `prompts` of the table `groups`."""
    connection.execute(ABOVE)
    limits = {"max_turns": settings.max_turns, "max_characters": settings.max_characters}
    engine.run(connection, "finding contexts", CONTEXT, limits)
    prompts = PROMPTS.format(prompt=PROMPT_FORMS[settings.form], content=TURN_CONTENTS[settings.source])
    engine.run(connection, "writing prompts", prompts)
