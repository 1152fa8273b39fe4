"""Contexts: places of conversations in which a model is asked for replies of its own."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adc_pipeline.evaluation.cases.conversations import Conversations
from adc_pipeline.walks.markers import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Context:
    """A place on the accepted path of a conversation, where a model is asked for replies."""

    conversation: int
    case: str  # id of the utterance that is replied to
    background: str
    turns: tuple[tuple[str, Verdict], ...]  # the accepted path
    siblings: tuple[str, ...]  # people's replies but the best, worst first


# Sibling groups of the first conversations, worst first.
GROUPS = """
SELECT conversation, parent, reply_to, list(position ORDER BY rank DESC, id DESC, position DESC)
FROM replies WHERE conversation < $most GROUP BY ALL ORDER BY conversation, parent
"""


def contexts(connection: "DuckDBPyConnection", trees: Conversations, most: int) -> list[Context]:
    """Return one place on the accepted path of each of the first conversations.

    The accepted path goes from the root to its best reply, and so on. Of the places on it with two or more replies, or
    else of all, the smallest MD5 digest of the id decides.
    """
    groups: dict[int, dict[int, tuple[str, list[int]]]] = {}
    for conversation, parent, id, replies in connection.execute(GROUPS, {"most": most}).fetchall():
        groups.setdefault(conversation, {})[parent] = (id, replies)
    found = []
    for conversation, by_parent in groups.items():
        place = next(parent for parent in by_parent if parent not in trees.parent)
        path = []
        while place in by_parent:
            path.append(by_parent[place])
            place = path[-1][1][-1]
        id, replies = min(
            [group for group in path if len(group[1]) > 1] or path,
            key=lambda group: (hashlib.md5(group[0].encode(), usedforsecurity=False).hexdigest(), group[0]),
        )
        background, turns = trees.background[conversation], trees.ancestors(replies[-1])
        siblings = tuple(trees.segment[reply] for reply in replies[:-1])
        found.append(Context(conversation, id, background, turns, siblings))
    return found
