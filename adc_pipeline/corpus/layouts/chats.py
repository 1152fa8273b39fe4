"""Exports of chats, where reactions are the score: Telegram, Slack, Discord."""

from adc_pipeline.corpus.layouts.layout import Layout

TELEGRAM = Layout(
    "Telegram messages",
    ("id", "type", "date", "from", "from_id", "text"),
    {
        "id": "{id:id}",
        "conversation_id": "{root}",
        "reply_to": "{reply_to_message_id:parent}",
        "speaker": "coalesce({from}, {from_id})",
        "text": "pieces({text})",
        "timestamp": "coalesce({date_unixtime}, {date})",
        "score": "reactions({reactions})",
        "kind": "CASE WHEN {type} <> 'message' THEN 't5_' END",
    },
)

SLACK = Layout(
    "Slack messages",
    ("type", "ts", "text", "user|bot_id|username"),
    {
        "id": "{ts:id}",
        "conversation_id": "coalesce({thread_ts:id}, {ts:id})",
        "reply_to": "nullif({thread_ts:parent}, {ts:parent})",
        "speaker": "coalesce({user_profile.name}, {username}, {user}, {bot_id})",
        "text": "{text}",
        "timestamp": "{ts}",
        "score": "reactions({reactions})",
        # Others tell that somebody joined, and the like.
        "kind": "CASE WHEN {subtype} NOT IN ('thread_broadcast', 'me_message', 'file_share', 'bot_message')"
        " THEN 't5_' END",
    },
)

# As its interface gives them, or DiscordChatExporter.
DISCORD = Layout(
    "Discord messages",
    ("id", "content", "timestamp", "author.name|author.username", "isPinned|pinned"),
    {
        "id": "{id:id}",
        "conversation_id": "{root}",
        "reply_to": "coalesce({reference.messageId:parent}, {message_reference.message_id:parent})",
        "speaker": "coalesce({author.name}, {author.username})",
        "text": "{content}",
        "timestamp": "{timestamp}",
        "score": "reactions({reactions})",
        # The others tell that somebody joined, that a message was pinned, and the like.
        "kind": "CASE WHEN {type} NOT IN ('Default', 'Reply', '0', '19') THEN 't5_' END",
    },
)

TELEGRAM_CHATS = Layout(
    "all chats of Telegram",
    ("chats.list",),
    refused="holds all chats of a Telegram account, whose messages are numbered apart: write each of `chats.list` to a"
    " file of its own",
)
