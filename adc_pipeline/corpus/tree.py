"""Build the tree of each conversation in a shard, and give every other row the reason why it is set aside.

An utterance takes part if it can be reached from its conversation's root by `reply_to` inside that conversation. This
module reads ids and numbers only, never the text. Keys (`corpus.keys`) are joined once; all later joins use `position`,
since integers join faster.

`set_aside.parquet` holds one row with one reason for each utterance that does not take part. `because_of` names the
ancestor with the fault where the utterance itself has none.
"""

from dataclasses import asdict
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import Counts
from adc_pipeline.corpus.keys import IS_UTTERANCE, Keys
from adc_pipeline.corpus.tables import CONVERSATIONS, SET_ASIDE, TREE, create_read_rows
from adc_pipeline.corpus.titles import create_titles

KEYS = """
CREATE TABLE keys AS
SELECT position, {key} AS key, {parent_key} AS parent_key, {conversation_key} AS conversation_key,
    id = conversation_id AS named, timestamp, score, {answers_thread} AS answers_thread
FROM read_rows ANTI JOIN duplicates USING (position)
WHERE id IS NOT NULL AND conversation_id IS NOT NULL AND {is_utterance}
"""

# A line that could not be parsed has null in every column. `blank` spares reading all texts: Parquet's statistics tell
# where a column has a null.
UNREADABLE = """
CREATE TABLE offenders AS
WITH blank AS (
    SELECT position AS blank FROM read_rows WHERE conversation_id IS NULL AND text = '' AND speaker = ''
)
SELECT position, CASE WHEN NOT {is_utterance} THEN 'not_an_utterance'
                      WHEN blank IS NOT NULL THEN 'malformed'
                      WHEN id IS NULL THEN 'no_id' ELSE 'no_conversation' END AS reason
FROM read_rows ANTI JOIN duplicates USING (position) LEFT JOIN blank ON blank = position
WHERE id IS NULL OR conversation_id IS NULL OR NOT {is_utterance}
UNION ALL
SELECT position, reason FROM duplicates SEMI JOIN read_rows USING (position)
"""

LINK = """
CREATE TABLE linked AS
SELECT r.position, p.position AS parent, r.parent_key IS NULL AS head, r.score IS NULL AS unscored,
    r.parent_key IS NOT NULL AND p.position IS NULL AS orphan,
    coalesce(p.conversation_key <> r.conversation_key, false) AS stray
FROM keys AS r LEFT JOIN keys AS p ON p.key = r.parent_key
"""

ROOTS = """
CREATE TABLE roots AS
WITH heads AS (
    SELECT *, row_number() OVER (
        PARTITION BY conversation_key ORDER BY NOT named, timestamp, key
    ) AS place
    FROM keys WHERE parent_key IS NULL
)
SELECT position, conversation_key, false AS adopted FROM heads WHERE place = 1
UNION ALL
SELECT any_value(position), conversation_key, true
FROM keys SEMI JOIN (FROM linked WHERE orphan OR stray) AS outside USING (position)
    ANTI JOIN heads USING (conversation_key)
WHERE $adopt_roots
GROUP BY conversation_key HAVING count(*) = 1
"""

# An adopted root answers what lies outside.
ANSWERS_TO_THREADS = """
UPDATE linked SET parent = roots.position, orphan = false
FROM keys JOIN roots USING (conversation_key)
WHERE linked.position = keys.position AND keys.answers_thread AND linked.orphan AND NOT roots.adopted
"""

# A reply whose parent is missing tells of a fault only where its conversation has a root. Otherwise the root lies
# outside the corpus, as at the edge of every month of a dump.
UNFIT = """
INSERT INTO offenders
SELECT position, CASE WHEN head THEN 'second_root' WHEN unscored THEN 'no_score'
                      WHEN NOT orphan THEN 'other_conversation'
                      WHEN conversation_key IN (SELECT conversation_key FROM roots) THEN 'missing_parent'
                      ELSE 'root_outside' END
FROM (FROM linked WHERE head OR unscored OR orphan OR stray) AS unfit ANTI JOIN roots USING (position)
    JOIN (SELECT position, conversation_key FROM keys) AS k USING (position)
"""

# Neither a root nor an offender: each has exactly one parent.
CHILDREN = """
CREATE TABLE children AS
SELECT position, parent FROM linked ANTI JOIN roots USING (position)
WHERE NOT (head OR unscored OR orphan OR stray)
"""

# One recursion goes down from roots and offenders alike: a reply below a root takes part, one below an offender is set
# aside with it, and one that neither leads to is in a loop, or below one. It carries the parent, which spares a join.
REACHED = """
CREATE TABLE reached AS
WITH RECURSIVE down AS (
    SELECT position, NULL::BIGINT AS parent, 0 AS depth, NULL::BIGINT AS because_of FROM roots
    UNION ALL
    SELECT position, NULL, NULL, NULL FROM offenders
    UNION ALL
    SELECT children.position, children.parent, down.depth + 1,
        CASE WHEN down.depth IS NULL THEN coalesce(down.because_of, down.position) END
    FROM down JOIN children ON children.parent = down.position
)
SELECT * FROM down
"""

SET_ASIDE_TABLE = """
CREATE TABLE set_aside AS
SELECT lost.position, offenders.reason, lost.because_of FROM (FROM reached WHERE depth IS NULL) AS lost
JOIN offenders ON offenders.position = coalesce(lost.because_of, lost.position)
"""
# Loops are rare, and finding them takes a join, so they are counted first.
UNREACHED = """
SELECT (SELECT count(*) FROM roots) + (SELECT count(*) FROM offenders) + (SELECT count(*) FROM children)
    - (SELECT count(*) FROM reached) AS unreached
"""
LOOPS = """
INSERT INTO set_aside SELECT position, 'loop', NULL FROM children ANTI JOIN reached USING (position)
"""

# The order of rows in `reached` may differ from run to run.
TREE_ROWS = """
SELECT position, parent AS parent_position, depth FROM reached WHERE depth IS NOT NULL ORDER BY position
"""

CONVERSATION_ROWS = """
SELECT r.conversation_id, roots.position AS root_position, r.id AS root_id,
    coalesce(listed.title, r.title) AS title, coalesce(listed.source, r.source) AS source, roots.adopted, r.namespace
FROM roots JOIN (SELECT position, id, conversation_id, title, source, namespace FROM read_rows) AS r USING (position)
LEFT JOIN titles AS listed USING (namespace, conversation_id)
ORDER BY roots.position
"""

SET_ASIDE_ROWS = """
WITH named AS MATERIALIZED (
    SELECT position, id, conversation_id, reply_to FROM read_rows SEMI JOIN set_aside USING (position)
)
SELECT r.id, r.conversation_id, s.position, s.reason, because.id AS because_of, r.reply_to,
    s.because_of AS because_of_position, k.parent_key
FROM set_aside AS s JOIN named AS r USING (position) LEFT JOIN named AS because ON because.position = s.because_of
LEFT JOIN (SELECT position, parent_key FROM keys) AS k ON k.position = s.position
ORDER BY s.position
"""

COUNTS = """
SELECT (SELECT count(*) FROM read_rows) AS read,
    (SELECT count(depth) FROM reached) AS taking_part,
    (SELECT count(*) FROM roots) AS roots,
    (SELECT count(*) FROM roots WHERE adopted) AS adopted_roots,
    (SELECT count(*) FROM set_aside) AS set_aside
"""


def write_tree(
    rows: Path, name: str, keys: Keys, duplicates: Path, titles: Path, out: Path, adopt_roots: bool, engine: Engine
) -> Counts:
    """Write the tree of `rows`, of the shard `name`, into the folder `out`: three Parquet files, see `corpus.tables`.

    `duplicates` is a file of positions whose key another row has, with reasons; `titles` a file of ConvoKit's titles.
    A parent that is not in this shard counts as missing. Return the counts: `read` = `taking_part` + `set_aside`.
    """
    with engine.connect(out / "spill") as connection:
        create_read_rows(connection, rows)
        connection.read_parquet(str(duplicates), hive_partitioning=False).create_view("duplicates")
        create_titles(connection, titles, name)
        engine.run(connection, "reading the ids", KEYS.format(**asdict(keys), is_utterance=IS_UTTERANCE))
        connection.execute(UNREADABLE.format(is_utterance=IS_UTTERANCE))
        engine.run(connection, "finding the parent of every reply", LINK)
        connection.execute(ROOTS, {"adopt_roots": adopt_roots})
        if keys.answers_thread != Keys.answers_thread:
            connection.execute(ANSWERS_TO_THREADS)
        connection.execute(UNFIT)
        connection.execute(CHILDREN)
        engine.run(connection, "reaching replies from the roots", REACHED)
        connection.execute(SET_ASIDE_TABLE)
        if only_row(connection, UNREACHED)["unreached"]:
            connection.execute(LOOPS)
        engine.write(connection, "writing the tree", TREE_ROWS, out / TREE)
        engine.write(connection, "writing the conversations", CONVERSATION_ROWS, out / CONVERSATIONS)
        engine.write(connection, "writing rows set aside", SET_ASIDE_ROWS, out / SET_ASIDE)
        return only_row(connection, COUNTS)
