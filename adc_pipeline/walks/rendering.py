"""Render utterances as they appear in a walk: two views, shared by the walks, the tokenizer and the evaluation.

A reply is rendered as `speaker\\ntext`, a root as `speaker\\ntitle\\ntext`; speaker and text are also separate columns.
These are views and not tables, so that a query renders only the utterances that it uses.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adc_pipeline.core.settings import setting
from adc_pipeline.corpus.privacy.mentions import create_mention_macros
from adc_pipeline.corpus.tables import create_utterances
from adc_pipeline.walks.markers import FORMATS, FormatName, neutralised

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Speakers = Literal["names", "pseudonyms", "none"]

# Few texts contain an angle bracket, and testing for one costs a fraction of three replacements.
NEUTRAL = """
CREATE MACRO neutral(content) AS CASE WHEN contains(content, '<') THEN replace(replace(replace(content,
    getvariable('background'), getvariable('neutral_background')),
    getvariable('rejected'), getvariable('neutral_rejected')),
    getvariable('accepted'), getvariable('neutral_accepted')) ELSE content END
"""

# The published generator leaves texts unchanged, and so does its format.
UNCHANGED = "CREATE MACRO neutral(content) AS content"

# Speakers are numbered within a conversation by first appearance, the root's first.
PSEUDONYMS = """
CREATE TABLE pseudonyms AS
SELECT namespace, conversation_id, speaker, 'user' || row_number() OVER (
    PARTITION BY namespace, conversation_id ORDER BY NOT bool_or(is_root), min((timestamp, id))
) AS pseudonym
FROM utterances GROUP BY namespace, conversation_id, speaker
"""

# What stands for a mentioned user of whom the conversation has no utterance.
SOMEONE = "someone"
# Names are found whatever their case; two that differ only by it share a pseudonym.
MENTIONED: dict[Speakers, str] = {
    "pseudonyms": """
        CREATE TABLE mention_names AS
        SELECT namespace, conversation_id, map_from_entries(list((name, pseudonym))) AS names
        FROM (SELECT namespace, conversation_id, name_key(speaker) AS name, min(pseudonym) AS pseudonym
              FROM pseudonyms WHERE trim(speaker) <> '' GROUP BY ALL)
        GROUP BY ALL
    """,
    "none": """
        CREATE TABLE mention_names (namespace VARCHAR, conversation_id VARCHAR, names MAP(VARCHAR, VARCHAR))
    """,
}
REPLACED = """
CREATE VIEW {view} AS
SELECT each.* REPLACE ({replaced}) FROM {rows} AS each LEFT JOIN mention_names USING (namespace, conversation_id)
"""
WITHOUT_NAMES = "{macro}({column}, names, getvariable('someone')) AS {column}"

SPEAKER: dict[Speakers, str] = {
    "names": "neutral(speaker)",
    "pseudonyms": "pseudonym",
    "none": "NULL::VARCHAR",
}

# Does not join the tree, which costs time: the caller selects the replies that take part.
RENDERED_REPLIES = """
CREATE VIEW rendered_replies AS
SELECT *, concat(speaker || chr(10), text) AS segment
FROM (
    SELECT position, id, namespace, conversation_id, {speaker} AS speaker, neutral(text) AS text,
        {altered} AS altered
    FROM {rows} {join}
)
"""

RENDERED_ROOTS = """
CREATE VIEW rendered_roots AS
SELECT *, concat(speaker || chr(10), title || chr(10), text) AS segment
FROM (
    SELECT position, id, namespace, conversation_id, c.source, {speaker} AS speaker,
        neutral(coalesce(c.title, '')) AS title,
        neutral(text) AS text, {altered} OR coalesce(neutral(c.title) <> c.title, false) AS altered
    FROM (SELECT position, id, speaker, text FROM {rows}) AS r
    JOIN {conversations} AS c ON c.root_position = r.position {join}
)
"""
ALTERED = "(neutral(text) <> text OR neutral(speaker) <> speaker)"


def mentions_setting() -> Any:
    """Return the field of the setting `mentions`."""
    return setting(
        "names",
        "How users appear whom a text mentions as u/NAME, /u/NAME or @NAME: names, pseudonyms (those of speakers of the"
        " conversation, someone for others) or none (someone).",
    )


def create_rendered(
    connection: "DuckDBPyConnection",
    utterances: Path,
    format: FormatName,
    speakers: Speakers,
    mentions: Speakers = "names",
) -> None:
    """Create the views of `corpus.tables` and those of `create_views` over a folder `utterances` or one of its shards.

    Query `rendered_replies` only at positions of replies that take part.
    """
    create_utterances(connection, utterances)
    create_views(connection, format, speakers, mentions)


def create_pseudonyms(
    connection: "DuckDBPyConnection", speakers: Speakers, mentions: Speakers, rows: str = "read_rows"
) -> tuple[str, str, str]:
    """Create the table `pseudonyms` if one of the two settings needs it, and views of texts with mentions replaced.

    Return a join that adds `pseudonym` to rows with a speaker, or nothing, and the names of the relations to take rows
    and conversations from: `rows` and `conversations`, or views of them with mentions replaced.
    """
    if "pseudonyms" in (speakers, mentions):
        connection.execute(PSEUDONYMS)
    conversations = "conversations"
    if mentions != "names":
        create_mention_macros(connection)
        connection.execute("SET VARIABLE someone = $1", [SOMEONE])
        connection.execute(MENTIONED[mentions])
        text, title = (WITHOUT_NAMES.format(macro="with_mentions", column=column) for column in ("text", "title"))
        source = WITHOUT_NAMES.format(macro="without_owner", column="source")
        views = {"replaced_rows": (rows, text), "replaced_conversations": (conversations, f"{title}, {source}")}
        for view, (relation, replaced) in views.items():
            connection.execute(REPLACED.format(view=view, rows=relation, replaced=replaced))
        rows, conversations = views
    join = "JOIN pseudonyms USING (namespace, conversation_id, speaker)" if speakers == "pseudonyms" else ""
    return join, rows, conversations


def create_views(
    connection: "DuckDBPyConnection",
    format: FormatName,
    speakers: Speakers,
    mentions: Speakers = "names",
    rows: str = "read_rows",
) -> None:
    """Create the views `rendered_replies` and `rendered_roots` over the rows of the table `rows`.

    Columns: `position`, `id`, `namespace`, `conversation_id`, `speaker` (null if the setting `speakers` is none),
    `text`, `segment` (the whole rendered utterance), and `altered`, whether a marker string was neutralised in it;
    roots also have `source` and `title`. Sets the connection's variables `background`, `rejected` and `accepted` to
    the marker strings. `mentions` is what stands for users whom a text or a title mentions.
    """
    markers = FORMATS[format]
    names = ("background", "rejected", "accepted")
    variables = {name: getattr(markers, name) for name in names}
    variables |= {f"neutral_{name}": neutralised(variables[name]) for name in names}
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = $1", [value])
    connection.execute(UNCHANGED if format == "released" else NEUTRAL)
    join, rows, conversations = create_pseudonyms(connection, speakers, mentions, rows)
    relations = {"join": join, "rows": rows, "conversations": conversations}
    for view in (RENDERED_REPLIES, RENDERED_ROOTS):
        connection.execute(view.format(speaker=SPEAKER[speakers], altered=ALTERED, **relations))
