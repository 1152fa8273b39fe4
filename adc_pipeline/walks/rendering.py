"""How an utterance is spelt inside a walk: the view `rendered`, shared by the walks and the evaluation.

A reply is `speaker\\ntext`, a root `speaker\\ntitle\\ntext`; the view also keeps speaker and text apart.
It is a view and not a table, so that only the utterances a query really uses are spelt out.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adc_pipeline.walks.markers import FORMATS, FormatName, neutralised

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Speakers = Literal["names", "pseudonyms", "none"]

NEUTRAL = """
CREATE MACRO neutral(content) AS replace(replace(replace(content,
    getvariable('background'), getvariable('neutral_background')),
    getvariable('rejected'), getvariable('neutral_rejected')),
    getvariable('accepted'), getvariable('neutral_accepted'))
"""

# The published generator leaves texts as they are, so its format does too.
AS_IT_IS = "CREATE MACRO neutral(content) AS content"

# Numbered within the conversation by first appearance, root first; a number means nothing outside it.
PSEUDONYMS = """
CREATE TABLE pseudonyms AS
SELECT conversation_id, speaker, 'user' || row_number() OVER (
    PARTITION BY conversation_id ORDER BY NOT bool_or(is_root), min((timestamp, id))
) AS pseudonym
FROM read_parquet(getvariable('utterances')) GROUP BY conversation_id, speaker
"""

SPEAKER: dict[Speakers, str] = {
    "names": "neutral(speaker)",
    "pseudonyms": "pseudonym",
    "none": "NULL::VARCHAR",
}

RENDERED = """
CREATE VIEW rendered AS
SELECT position, id, conversation_id, source, is_root, speaker, text,
    concat(speaker || chr(10), CASE WHEN is_root THEN title || chr(10) END, text) AS segment
FROM (
    SELECT position, id, conversation_id, source, is_root, {speaker} AS speaker,
        neutral(coalesce(title, '')) AS title, neutral(text) AS text
    FROM read_parquet(getvariable('utterances')) {join}
)
"""


def create_rendered(connection: "DuckDBPyConnection", utterances: Path, format: FormatName, speakers: Speakers) -> None:
    """Create the view `rendered` over the folder `utterances`, one row an utterance.

    Columns: `position`, `id`, `conversation_id`, `source`, `is_root`, `speaker` (null where the setting
    speakers is none), `text`, and `segment`, all of it as it stands in a walk. The marker strings are left
    behind as the variables `background`, `rejected` and `accepted` of the connection.
    """
    markers = FORMATS[format]
    names = ("background", "rejected", "accepted")
    variables = {name: getattr(markers, name) for name in names}
    variables |= {f"neutral_{name}": neutralised(variables[name]) for name in names}
    for name, value in (variables | {"utterances": str(utterances / "utterances.parquet")}).items():
        connection.execute(f"SET VARIABLE {name} = $1", [value])
    connection.execute(AS_IT_IS if format == "released" else NEUTRAL)
    join = ""
    if speakers == "pseudonyms":
        connection.execute(PSEUDONYMS)
        join = "JOIN pseudonyms USING (conversation_id, speaker)"
    connection.execute(RENDERED.format(speaker=SPEAKER[speakers], join=join))
