"""How an utterance is spelt inside a walk: two views, shared by the walks, the tokenizer and the evaluation.

A reply is `speaker\\ntext`, a root `speaker\\ntitle\\ntext`; the views also keep speaker and text apart.
They are views and not tables, so that only the utterances a query really uses are spelt out.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adc_pipeline.corpus.tables import create_utterances
from adc_pipeline.walks.markers import FORMATS, FormatName, neutralised

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Speakers = Literal["names", "pseudonyms", "none"]

# Hardly any text has an angle bracket, and looking for one costs a fraction of three replacements.
NEUTRAL = """
CREATE MACRO neutral(content) AS CASE WHEN contains(content, '<') THEN replace(replace(replace(content,
    getvariable('background'), getvariable('neutral_background')),
    getvariable('rejected'), getvariable('neutral_rejected')),
    getvariable('accepted'), getvariable('neutral_accepted')) ELSE content END
"""

# The published generator leaves texts as they are, so its format does too.
AS_IT_IS = "CREATE MACRO neutral(content) AS content"

# Numbered within the conversation by first appearance, root first; a number means nothing outside it.
PSEUDONYMS = """
CREATE TABLE pseudonyms AS
SELECT conversation_id, speaker, 'user' || row_number() OVER (
    PARTITION BY conversation_id ORDER BY NOT bool_or(is_root), min((timestamp, id))
) AS pseudonym
FROM utterances GROUP BY conversation_id, speaker
"""

SPEAKER: dict[Speakers, str] = {
    "names": "neutral(speaker)",
    "pseudonyms": "pseudonym",
    "none": "NULL::VARCHAR",
}

# Of the two, the replies need no look at the tree.
RENDERED_REPLIES = """
CREATE VIEW rendered_replies AS
SELECT *, concat(speaker || chr(10), text) AS segment
FROM (
    SELECT position, id, conversation_id, {speaker} AS speaker, neutral(text) AS text, {altered} AS altered
    FROM read_rows {join}
)
"""

RENDERED_ROOTS = """
CREATE VIEW rendered_roots AS
SELECT *, concat(speaker || chr(10), title || chr(10), text) AS segment
FROM (
    SELECT position, id, conversation_id, c.source, {speaker} AS speaker, neutral(coalesce(c.title, '')) AS title,
        neutral(text) AS text, {altered} OR coalesce(neutral(c.title) <> c.title, false) AS altered
    FROM (SELECT position, id, speaker, text FROM read_rows) AS r
    JOIN conversations AS c ON c.root_position = r.position {join}
)
"""
ALTERED = "(neutral(text) <> text OR neutral(speaker) <> speaker)"


def create_rendered(connection: "DuckDBPyConnection", utterances: Path, format: FormatName, speakers: Speakers) -> None:
    """Create the views `rendered_replies` and `rendered_roots` over the folder `utterances` or one of its shards.

    Columns: `position`, `id`, `conversation_id`, `speaker` (null where the setting speakers is none), `text`,
    `segment`, all of it as it stands in a walk, and `altered`, whether a marker string was neutralised in it;
    of roots also `source` and `title`. `rendered_replies` is for positions that the caller knows to be replies
    that take part. The marker strings are left behind as the variables `background`, `rejected` and `accepted`
    of the connection.
    """
    create_utterances(connection, utterances)
    markers = FORMATS[format]
    names = ("background", "rejected", "accepted")
    variables = {name: getattr(markers, name) for name in names}
    variables |= {f"neutral_{name}": neutralised(variables[name]) for name in names}
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = $1", [value])
    connection.execute(AS_IT_IS if format == "released" else NEUTRAL)
    join = ""
    if speakers == "pseudonyms":
        connection.execute(PSEUDONYMS)
        join = "JOIN pseudonyms USING (conversation_id, speaker)"
    for view in (RENDERED_REPLIES, RENDERED_ROOTS):
        connection.execute(view.format(speaker=SPEAKER[speakers], altered=ALTERED, join=join))
