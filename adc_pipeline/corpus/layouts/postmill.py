"""Submissions and comments of Postmill."""

from adc_pipeline.corpus.layouts.layout import Layout

# Raddle and others: tables of its database, or its interface.
POSTMILL_SUBMISSIONS = Layout(
    "Postmill submissions",
    ("id", "title", "net_score|netScore", "forum_id|forum_name|forum.id|forum.name"),
    {
        "id": "{id:id}",
        "conversation_id": "{id:id}",
        "speaker": "coalesce({user.username}, {username}, 'user' || {user_id:id})",
        "text": "CASE {visibility} WHEN 'soft_deleted' THEN '[deleted]' WHEN 'trashed' THEN '[removed]'"
        " ELSE {body} END",
        "timestamp": "{timestamp}",
        "score": "coalesce({net_score}, {netScore})",
        "stickied": "{sticky}",
        "title": "{title}",
        "source": "coalesce({forum.name}, {forum_name})",
        "kind": "'t3_'",
    },
)

POSTMILL_COMMENTS = Layout(
    "Postmill comments",
    ("id", "body", "net_score|netScore", "submission_id|submission.id"),
    {
        "id": "{id:id}",
        "conversation_id": "coalesce({submission_id:id}, {submission.id:id})",
        "reply_to": "coalesce({parent_id:parent}, {parentId:parent}, {submission_id:id}, {submission.id:id})",
        "speaker": "coalesce({user.username}, {username}, 'user' || {user_id:id})",
        "text": "CASE WHEN {visibility} = 'soft_deleted' OR is_true({soft_deleted}) THEN '[deleted]'"
        " WHEN {visibility} = 'trashed' THEN '[removed]' ELSE {body} END",
        "timestamp": "{timestamp}",
        "score": "coalesce({net_score}, {netScore})",
        "source": "{forum_name}",
        "kind": "'t1_'",
        "parent_kind": "CASE WHEN coalesce({parent_id:parent}, {parentId:parent}) IS NULL THEN 't3_' ELSE 't1_' END",
    },
    has_roots=False,
)
