"""Messages and trees of OpenAssistant."""

from dataclasses import replace

from adc_pipeline.corpus.layouts.layout import Layout

OPEN_ASSISTANT = Layout(
    "OpenAssistant messages",
    ("message_id", "parent_id", "message_tree_id", "text", "role", "rank"),
    {
        "id": "{message_id:id}",
        "conversation_id": "{message_tree_id:id}",
        "reply_to": "{parent_id:parent}",
        "speaker": "coalesce({user_id}, {role})",
        "text": "CASE WHEN is_true({deleted}) THEN '[deleted]' ELSE {text} END",
        "timestamp": "{created_date}",
        # An only reply has nothing to be ranked against, and no rank.
        "score": "coalesce({rank:number}, CASE WHEN {only_reply} AND {parent_id:parent} IS NOT NULL THEN '0' END)",
    },
    score_order="lower",
)

# The same messages, those that answer one inside it.
OPEN_ASSISTANT_TREES = replace(
    OPEN_ASSISTANT,
    name="OpenAssistant trees",
    fields=("message_tree_id", "prompt.message_id", "prompt.replies"),
    inside="prompt",
    around=("message_tree_id",),
    children=("replies",),
    answers=("parent_id", "message_id"),
)
