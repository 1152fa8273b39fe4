"""Records of other sites' layouts, made from plain records (`fuzz.inputs.utterances`)."""

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
DATE = "2020-01-01T00:00:00.000"


def is_root(row: Record) -> bool:
    return row.get("reply_to") is None


def numbers(rows: list[Record]) -> dict[str, int]:
    """Return a number for each id, as sites have that count their posts."""
    return {str(row.get("id")): place + 1 for place, row in enumerate(rows)}


def messages(rows: list[Record]) -> list[Record]:
    """Return OpenAssistant's messages, one a record."""
    return [
        {
            "message_id": row.get("id"), "parent_id": row.get("reply_to"),
            "message_tree_id": row.get("conversation_id"), "text": row.get("text"),
            "role": "prompter" if is_root(row) else "assistant",
            "rank": row.get("score"), "user_id": row.get("speaker"), "deleted": False, "created_date": DATE,
        }
        for row in rows
    ]  # fmt: skip


def lemmy(rows: list[Record]) -> list[Record]:
    """Return posts and comments as Lemmy's interface gives them."""
    found = []
    for row in rows:
        common = {"counts": {"score": row.get("score")}, "creator": {"name": row.get("speaker")}}
        if is_root(row):
            post = {"id": row.get("id"), "name": "Kettle", "body": row.get("text"), "published": DATE}
            found.append({"post": post, "community": {"name": "kettles"}, **common})
        else:
            path = f"0.{row.get('id')}" if row.get("reply_to") == row.get("conversation_id") else (
                f"0.{row.get('reply_to')}.{row.get('id')}"
            )  # fmt: skip
            comment = {
                "id": row.get("id"), "post_id": row.get("conversation_id"), "path": path, "content": row.get("text"),
                "published": DATE, "removed": False,
            }  # fmt: skip
            found.append({"comment": comment, **common})
    return found


def discourse(rows: list[Record]) -> list[Record]:
    """Return posts of Discourse, numbered within their topic."""
    topics: dict[str, list[Record]] = {}
    for row in rows:
        topics.setdefault(str(row.get("conversation_id")), []).append(row)
    found = []
    for topic, posts in topics.items():
        places = numbers(posts)
        for place, row in enumerate(posts, start=1):
            found.append(
                {
                    "topic_id": topic, "post_number": place,
                    "reply_to_post_number": places.get(str(row.get("reply_to"))),
                    "cooked": f"<p>{row.get('text')}</p>", "username": row.get("speaker"), "created_at": DATE,
                    "actions_summary": [{"id": 2, "count": row.get("score")}], "topic_title": "Kettle",
                }
            )  # fmt: skip
    return found


def topics(rows: list[Record]) -> list[Record]:
    """Return topics of Discourse with their posts inside."""
    posts: dict[str, list[Record]] = {}
    for post in discourse(rows):
        posts.setdefault(post["topic_id"], []).append(post)
    return [{"title": "Kettle", "post_stream": {"posts": found}} for found in posts.values()]


def voat(rows: list[Record]) -> list[Record]:
    return [
        {
            "id": row.get("id"), "title": "Kettle", "userName": row.get("speaker"), "content": row.get("text"),
            "upCount": row.get("score"), "downCount": 1, "subverse": "kettles", "creationDate": DATE,
        }
        if is_root(row)
        else {
            "commentID": row.get("id"), "submissionID": row.get("conversation_id"), "parentID": row.get("reply_to"),
            "content": row.get("text"), "upCount": row.get("score"), "downCount": 1, "userName": row.get("speaker"),
            "creationDate": DATE, "isDeleted": False,
        }
        for row in rows
    ]  # fmt: skip


def ruqqus(rows: list[Record]) -> list[Record]:
    return [
        {
            "id": row.get("id"), "title": "Kettle", "author_name": row.get("speaker"), "body": row.get("text"),
            "upvotes": row.get("score"), "downvotes": 0, "guild_name": "kettles", "created_utc": row.get("timestamp"),
        }
        if is_root(row)
        else {
            "id": row.get("id"), "post_id": row.get("conversation_id"), "body": row.get("text"),
            "parent_comment_id": [row.get("reply_to")], "author_name": row.get("speaker"), "upvotes": row.get("score"),
            "downvotes": 0, "created_utc": row.get("timestamp"),
        }
        for row in rows
    ]  # fmt: skip


def reddit(rows: list[Record]) -> list[Record]:
    """Return posts and comments of Reddit, in one file."""
    return [
        {
            "id": row.get("id"), "title": "Kettle", "selftext": row.get("text"), "author": row.get("speaker"),
            "score": row.get("score"), "created_utc": row.get("timestamp"), "subreddit": "kettles",
        }
        if is_root(row)
        else {
            "id": row.get("id"), "link_id": f"t3_{row.get('conversation_id')}", "body": row.get("text"),
            "parent_id": f"t{1 + 2 * (row.get('reply_to') == row.get('conversation_id'))}_{row.get('reply_to')}",
            "author": row.get("speaker"), "score": row.get("score"), "created_utc": row.get("timestamp"),
            "subreddit": "kettles", "stickied": False, "retrieved_on": row.get("timestamp"), "edited": False,
        }
        for row in rows
    ]  # fmt: skip


def stack_exchange(rows: list[Record]) -> list[Record]:
    """Return questions and answers as a table."""
    place = numbers(rows)
    return [
        {
            "Id": place[str(row.get("id"))], "PostTypeId": 1 if is_root(row) else 2,
            "ParentId": place.get(str(row.get("reply_to"))), "Score": row.get("score"), "Body": row.get("text"),
            "CreationDate": DATE, "OwnerUserId": row.get("speaker"), "Title": "Kettle",
        }
        for row in rows
    ]  # fmt: skip


def extended(rows: list[Record]) -> list[Record]:
    """Return plain records in MongoDB's Extended JSON."""
    return [
        {
            **row, "_id": {"$oid": "5f" * 12}, "score": {"$numberLong": str(row.get("score"))},
            "timestamp": {"$date": {"$numberLong": f"{row.get('timestamp')}000"}},
        }
        for row in rows
    ]  # fmt: skip


def postmill(rows: list[Record]) -> list[Record]:
    return [
        {
            "id": row.get("id"), "title": "Kettle", "body": row.get("text"), "net_score": row.get("score"),
            "forum_id": 7, "user": row.get("speaker"), "timestamp": DATE,
        }
        if is_root(row)
        else {
            "id": row.get("id"), "submission_id": row.get("conversation_id"), "body": row.get("text"),
            "parent_id": None if row.get("reply_to") == row.get("conversation_id") else row.get("reply_to"),
            "net_score": row.get("score"), "user": row.get("speaker"), "timestamp": DATE,
        }
        for row in rows
    ]  # fmt: skip


def questions(rows: list[Record]) -> list[Record]:
    """Return questions of Stack Exchange's public interface with their answers."""
    place = numbers(rows)
    found: dict[str, Record] = {}
    for row in rows:
        number = place[str(row.get("id"))]
        common = {
            "score": row.get("score"), "creation_date": row.get("timestamp"), "body": f"<p>{row.get('text')}</p>",
            "owner": {"display_name": row.get("speaker")},
        }  # fmt: skip
        if is_root(row):
            found[str(row.get("id"))] = {**common, "question_id": number, "title": "Kettle", "answers": []}
        elif asked := found.get(str(row.get("conversation_id"))):
            asked["answers"].append({**common, "answer_id": number, "question_id": asked["question_id"]})
    return list(found.values())


def numbered_apart(rows: list[Record]) -> list[Record]:
    """Return plain records whose ids are numbers that each thread counts anew."""
    found: list[Record] = []
    known: dict[str, dict[str, int]] = {}
    for row in rows:
        inside = known.setdefault(str(row.get("conversation_id")), {})
        number = inside.setdefault(str(row.get("id")), len(inside) + 1)
        found.append({**row, "id": number, "reply_to": inside.get(str(row.get("reply_to")))})
    return found


def named_thread(rows: list[Record]) -> list[Record]:
    """Return plain records whose posts have other ids than their threads, which the replies to a post name."""
    return [{**row, "id": f"p{row.get('id')}"} if is_root(row) else row for row in rows]


def with_replies(rows: list[Record]) -> list[Record]:
    """Return posts that hold their replies, which no layout knows."""
    return [
        {**row, "comments": [each for each in rows if each.get("reply_to") == row.get("id") and each is not row]}
        for row in rows
        if is_root(row)
    ]


def wrapped(rows: list[Record]) -> list[Record]:
    """Return plain records, each inside another object."""
    return [{"kind": "t1", "data": row} for row in rows]


def renamed(rows: list[Record]) -> list[Record]:
    """Return plain records by other names, which the setting `columns` maps."""
    return [{RENAMED.get(name, name): value for name, value in row.items()} for row in rows]


RENAMED = {"id": "key", "conversation_id": "thread", "reply_to": "parent", "text": "body", "score": "points"}

LAYOUTS: dict[str, Callable[[list[Record]], list[Record]]] = {
    "plain": list,
    "messages": messages,
    "lemmy": lemmy,
    "discourse": discourse,
    "topics": topics,
    "voat": voat,
    "ruqqus": ruqqus,
    "reddit": reddit,
    "stack exchange": stack_exchange,
    "postmill": postmill,
    "questions": questions,
    "numbered apart": numbered_apart,
    "named thread": named_thread,
    "with replies": with_replies,
    "wrapped": wrapped,
    "extended": extended,
    "renamed": renamed,
}
