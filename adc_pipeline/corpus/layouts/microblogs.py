"""Statuses of Mastodon, tweets, and posts of Bluesky, whose score is how many like them."""

from adc_pipeline.corpus.layouts.layout import Layout

MASTODON = Layout(
    "Mastodon statuses",
    ("id", "in_reply_to_id", "content", "favourites_count"),
    {
        "id": "{id:id}",
        "conversation_id": "{root}",
        "reply_to": "{in_reply_to_id:parent}",
        "speaker": "coalesce({account.acct}, {account.username}, {acct}, {username})",
        "text": "html_text({content})",
        "timestamp": "{created_at}",
        "score": "{favourites_count}",
        # A status that repeats another one has its text, and is none of its own.
        "kind": "CASE WHEN coalesce({reblog.id:parent}, {reblog:parent}) IS NOT NULL THEN 't5_' END",
    },
)

# As the first version of its interface has them; version 2 names the conversation.
TWEETS = Layout(
    "tweets",
    ("id|id_str", "full_text|text", "in_reply_to_status_id|in_reply_to_status_id_str", "favorite_count"),
    {
        "id": "coalesce({id_str:id}, {id:id})",
        "conversation_id": "{root}",
        "reply_to": "coalesce({in_reply_to_status_id_str:parent}, {in_reply_to_status_id:parent})",
        "speaker": "coalesce({user.screen_name}, {screen_name})",
        "text": "coalesce({full_text}, {text})",
        "timestamp": "{created_at}",
        "score": "{favorite_count}",
        # What repeats another tweet is none of its own.
        "kind": "CASE WHEN coalesce({retweeted_status.id:parent}, {retweeted_status:parent}) IS NOT NULL"
        " THEN 't5_' END",
    },
)

TWEETS_OF_VERSION_2 = Layout(
    "tweets of version 2",
    ("id", "text", "conversation_id", "author_id", "public_metrics.like_count"),
    {
        "id": "{id:id}",
        "conversation_id": "{conversation_id:id}",
        "reply_to": "coalesce("
        "nullif(regexp_extract({referenced_tweets}, '.type.: ?.replied_to., ?.id.: ?.?(\\d+)', 1), ''),"
        " nullif(regexp_extract({referenced_tweets}, '.id.: ?.?(\\d+).?, ?.type.: ?.replied_to', 1), ''))",
        "speaker": "{author_id}",
        "text": "{text}",
        "timestamp": "{created_at}",
        "score": "{public_metrics.like_count}",
        "kind": "CASE WHEN {referenced_tweets} LIKE '%retweeted%' THEN 't5_' END",
    },
)

BLUESKY = Layout(
    "Bluesky posts",
    ("uri", "cid", "record.text", "likeCount"),
    {
        "id": "{uri:id}",
        "conversation_id": "coalesce({record.reply.root.uri:parent}, {uri:id})",
        "reply_to": "{record.reply.parent.uri:parent}",
        "speaker": "coalesce({author.handle}, {author.did})",
        "text": "{record.text}",
        "timestamp": "coalesce({record.createdAt}, {indexedAt})",
        "score": "{likeCount}",
    },
)
