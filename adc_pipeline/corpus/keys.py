"""The key of an utterance, in every join: its namespace, its kind where ids are numbered apart, and its id.

People see `id` and `conversation_id`, and splits and coins are hashes of these. Joins use keys, since an id alone may
name two utterances: one of each of two forums (`corpus.namespaces`), or a post and a comment of Reddit. Where a corpus
has neither, the key is the id, and costs nothing.

Some sites number threads and posts apart. Their tables name a thread in `conversation_id`, and those who answer its
first post name the thread again: a parent that no utterance has as its id. `answers_thread` tells such rows, whose
parent is the root of their conversation.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adc_pipeline.corpus.readers.values import COMMENT, POST, stands_for_nothing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAMESPACES = """
SELECT namespace, coalesce(bool_or(kind IS NOT NULL OR parent_kind IS NOT NULL), false) AS has_kinds
FROM read_rows GROUP BY namespace
"""

# Where some rows of a namespace tell the kind, those that do not are posts if they answer nothing, and answer the
# post if they answer what the conversation is named by.
OWN_KIND = f"coalesce(kind, CASE WHEN reply_to IS NULL THEN '{POST}' ELSE '{COMMENT}' END)"
PARENT_KIND = f"coalesce(parent_kind, CASE WHEN reply_to = conversation_id THEN '{POST}' ELSE '{COMMENT}' END)"

# A word for no parent is a parent where an utterance has that id, as in a table with row numbers.
ANSWERS_NOTHING = f"""
SELECT DISTINCT namespace, reply_to FROM read_rows
WHERE {stands_for_nothing("reply_to")} AND reply_to IS DISTINCT FROM conversation_id AND parent_kind IS NULL
"""  # noqa: S608
HAS_ID = f"SELECT DISTINCT namespace, id FROM read_rows WHERE {stands_for_nothing('id')}"  # noqa: S608
IS_NOTHING = (
    "namespace = '{}' AND reply_to = '{}' AND reply_to IS DISTINCT FROM conversation_id AND parent_kind IS NULL"
)

# Namespaces in which threads and utterances are numbered apart: no utterance has the name of a conversation that is
# answered, and most conversations that are answered so have a root. An excerpt without its posts has none.
# One conversation that is named by its root, as in dumps and ConvoKit's corpora, spares comparing the ids of all rows.
NAMED_BY_ROOT = "SELECT 1 FROM read_rows WHERE id = conversation_id LIMIT 1"
NAMES_THREADS = """
SELECT namespace FROM read_rows
GROUP BY namespace HAVING bool_or(reply_to = conversation_id) AND NOT bool_or(id = conversation_id) ORDER BY namespace
"""
NUMBERED_APART = """
WITH rows AS (SELECT namespace, id, conversation_id, reply_to, {parent_key} AS parent_key FROM read_rows
              WHERE list_contains($namespaces, namespace)),
    threads AS (SELECT namespace, conversation_id, bool_or(parent_key IS NULL) AS has_root FROM rows
                WHERE conversation_id IS NOT NULL GROUP BY ALL HAVING bool_or(reply_to = conversation_id)),
    named AS (SELECT DISTINCT rows.namespace FROM rows
              JOIN threads ON rows.namespace = threads.namespace AND rows.id = threads.conversation_id)
SELECT namespace FROM threads ANTI JOIN named USING (namespace)
GROUP BY namespace HAVING avg(has_root::INTEGER) >= 0.5 ORDER BY namespace
"""
ANSWERS_THREAD = "(namespace IN ({namespaces}) AND reply_to = conversation_id)"

# What holds no utterance: an entry of a list of subreddits or accounts.
IS_UTTERANCE = f"(kind IS NULL OR kind IN ('{POST}', '{COMMENT}'))"


@dataclass(frozen=True)
class Keys:
    """SQL expressions over the columns of `read_rows`; null where an id is missing."""

    key: str = "id"
    parent_key: str = "reply_to"
    conversation_key: str = "conversation_id"
    # Whether a row answers the thread that it belongs to; such a parent has no key.
    answers_thread: str = "false"


def read_keys(connection: "DuckDBPyConnection") -> Keys:
    """Return the keys for the rows of the view `read_rows`."""
    found: dict[str, bool] = dict(connection.execute(NAMESPACES).fetchall())
    with_kinds = [namespace for namespace, has_kinds in found.items() if has_kinds]
    key, parent, conversation = ["id"], ["reply_to"], ["conversation_id"]
    if with_kinds:
        # All of them, as a rule.
        known = ", ".join(f"'{namespace}'" for namespace in with_kinds)
        only = "{}" if len(with_kinds) == len(found) else f"CASE WHEN namespace IN ({known}) THEN {{}} ELSE '' END"
        key, parent = [only.format(OWN_KIND), *key], [only.format(PARENT_KIND), *parent]
    if set(found) - {""}:
        key, parent, conversation = (["namespace", *parts] for parts in (key, parent, conversation))
    keys = Keys(*(" || ".join(parts) for parts in (key, parent, conversation)))
    nothing = connection.execute(ANSWERS_NOTHING).fetchall()
    nothing = sorted(set(nothing) - set(connection.execute(HAS_ID).fetchall())) if nothing else []
    if nothing:
        conditions = " OR ".join(IS_NOTHING.format(*each) for each in nothing)
        keys = replace(keys, parent_key=f"CASE WHEN NOT ({conditions}) THEN {keys.parent_key} END")
    threads = []
    if len(found) > 1 or not connection.execute(NAMED_BY_ROOT).fetchall():
        threads = [namespace for (namespace,) in connection.execute(NAMES_THREADS).fetchall()]
    if threads:
        query = NUMBERED_APART.format(parent_key=keys.parent_key)
        threads = [namespace for (namespace,) in connection.execute(query, {"namespaces": threads}).fetchall()]
    if threads:
        known = ", ".join(f"'{namespace}'" for namespace in threads)
        keys = replace(keys, answers_thread=ANSWERS_THREAD.format(namespaces=known))
    return keys
