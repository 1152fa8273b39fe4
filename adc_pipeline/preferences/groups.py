"""Find the roots and the groups of a shard: the replies to one utterance, of which at least two have different scores.

A text without a visible character is no prompt and no completion. Which replies belong to a group is decided by ids,
ranks and scores alone; texts are joined last.
"""

from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import Counts
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.walks.rendering import create_pseudonyms
from adc_pipeline.walks.splits import split_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# `content` is a reply's text, or a root's title and text.
TEXTS = r"""
CREATE TABLE texts AS
SELECT *, regexp_matches(content, '[^\s\p{{Z}}\p{{C}}]') AS visible FROM (
    SELECT r.position, r.namespace, r.conversation_id, r.score, r.speaker, c.root_position IS NOT NULL AS is_root,
        c.source, c.root_position IS NOT NULL AND r.text <> '' AS is_self_post,
        CASE WHEN c.root_position IS NULL THEN r.text
             ELSE concat_ws(chr(10), nullif(c.title, ''), nullif(r.text, '')) END AS content
    FROM {rows} AS r LEFT JOIN {conversations} AS c ON c.root_position = r.position
    SEMI JOIN (SELECT position FROM ranked UNION ALL SELECT root_position FROM conversations) AS used
        ON used.position = r.position
) {join}
"""
SEGMENTS = {
    "none": "content",
    "names": "concat(speaker, chr(10), content)",
    "pseudonyms": "concat(pseudonym, chr(10), content)",
}

# `segment` is the content with the speaker, as in prompts; it is not stored, since it mostly is the content again.
CONTENTS = "CREATE VIEW contents AS SELECT position, content, {segment} AS segment FROM texts"

# `place` orders conversations, in all shards together since a shard is a range of the same hash.
ROOTS = """
CREATE TABLE roots AS
SELECT position AS root, namespace, conversation_id, source, speaker, {split} AS split,
    row_number() OVER (ORDER BY md5(conversation_id), conversation_id, namespace) AS place
FROM texts WHERE is_root AND visible AND position NOT IN (FROM unfit)
    AND ($min_root_score IS NULL OR score >= $min_root_score) AND (is_self_post OR NOT $self_posts_only)
"""

# A text that does not fit is left out with all replies below it, as DialogRPT leaves out a whole path. The sign of a
# quotation may still be an entity, if the setting `decode_entities` of `utterances` is off.
UNFIT = r"""
CREATE OR REPLACE TABLE unfit AS
WITH RECURSIVE lost AS (
    SELECT position FROM texts
    WHERE len(regexp_extract_all(content, '\S+')) > $max_words
        OR ($exclude_quotations AND (contains(content, '>') OR contains(content, '&gt;')))
    UNION
    SELECT ranked.position FROM lost JOIN ranked ON ranked.parent_position = lost.position
)
FROM lost
"""

REPLIES = r"""
CREATE TABLE replies AS
SELECT r.position, r.parent_position AS parent, r.reply_to, r.id, r.score, r.timestamp, r.rank, r.siblings, r.depth,
    roots.root, CASE WHEN r.siblings > 1
         THEN ('0x' || left(md5(concat_ws(':', getvariable('seed'), 'preferences', r.id)), 8))::BIGINT END AS digest
FROM ranked AS r JOIN texts USING (position)
JOIN roots ON roots.namespace = texts.namespace AND roots.conversation_id = texts.conversation_id
WHERE visible AND (r.depth = 1 OR NOT $top_level_only)
    AND (texts.speaker <> roots.speaker OR NOT $exclude_root_speaker)
    AND r.position NOT IN (FROM unfit)
"""

# `height` orders a group by score; it is the rank unless the setting `order` of ranked_replies ranks otherwise.
ANSWERS = """
CREATE TABLE answers AS
SELECT * FROM (
    SELECT position, parent, reply_to, id, score, timestamp, rank, depth, root, digest,
        row_number() OVER scores AS height, count(*) OVER scores AS number,
        first_value(score) OVER scores AS best, last_value(score) OVER scores AS worst
    FROM replies WHERE siblings > 1
    WINDOW scores AS (
        PARTITION BY parent ORDER BY score DESC, rank ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
) WHERE number > 1
"""

# Groups without a preference, and those whose answered utterance has no visible text.
TIED = "DELETE FROM answers WHERE best = worst"
UNASKED = "DELETE FROM answers WHERE parent IN (SELECT position FROM texts WHERE visible IS NOT TRUE)"

GROUPS = """
CREATE TABLE groups AS
SELECT parent, root, depth, source, conversation_id, split, row_number() OVER (ORDER BY place, reply_to) AS place
FROM answers JOIN roots USING (root) WHERE height = 1
"""

# From here on, no text is looked up among those of the whole corpus. The answers of a group lie together, so that
# collecting them in lists takes a third of the time.
ANSWERS_WITH_TEXTS = """
CREATE OR REPLACE TABLE answers AS
SELECT answers.*, content, length(content) AS characters FROM answers JOIN contents USING (position)
ORDER BY parent, rank
"""
NUMBER_OF_GROUPS = "SELECT count(*) AS groups FROM answers WHERE height = 1"


def create_texts(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the table `texts` and the view `contents` of the tables of `corpus.tables` and the view `ranked`."""
    join, rows, conversations = create_pseudonyms(connection, settings.speakers, settings.mentions)
    engine.run(connection, "reading texts", TEXTS.format(join=join, rows=rows, conversations=conversations))
    connection.execute(CONTENTS.format(segment=SEGMENTS[settings.speakers]))


def create_roots(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> None:
    """Create the tables `unfit`, of texts that are left out, and `roots`, of the conversations that take part."""
    connection.execute("CREATE TABLE unfit (position BIGINT)")
    if settings.max_words is not None or settings.exclude_quotations:
        of_texts = {"max_words": settings.max_words, "exclude_quotations": settings.exclude_quotations}
        engine.run(connection, "finding texts that do not fit", UNFIT, of_texts)
    split = split_sql("conversation_id", settings.shares)
    of_roots = {"min_root_score": settings.min_root_score, "self_posts_only": settings.self_posts_only}
    engine.run(connection, "finding roots", ROOTS.format(split=split), of_roots)


def create_groups(connection: "DuckDBPyConnection", engine: Engine, settings: PreferenceSettings) -> Counts:
    """Create the tables `replies`, `answers` and `groups`; return how many groups are left out, by reason."""
    of_replies = {
        "top_level_only": settings.top_level_only,
        "exclude_root_speaker": settings.exclude_root_speaker,
    }
    engine.run(connection, "finding replies", REPLIES, of_replies)
    engine.run(connection, "grouping replies", ANSWERS)
    left_out = {}
    for name, statement in {"tied": TIED, "unasked": UNASKED}.items():
        before = number_of_groups(connection)
        connection.execute(statement)
        left_out[name] = before - number_of_groups(connection)
    connection.execute(GROUPS)
    return left_out


def number_of_groups(connection: "DuckDBPyConnection") -> int:
    return int(only_row(connection, NUMBER_OF_GROUPS)["groups"])


def add_texts(connection: "DuckDBPyConnection", engine: Engine) -> None:
    """Add the replies' texts to the table `answers`."""
    engine.run(connection, "collecting replies", ANSWERS_WITH_TEXTS)
