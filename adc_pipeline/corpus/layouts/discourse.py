"""Posts and topics of Discourse."""

from dataclasses import replace

from adc_pipeline.corpus.layouts.layout import Layout

DISCOURSE = Layout(
    "Discourse posts",
    ("topic_id", "post_number", "reply_to_post_number", "raw|cooked"),
    {
        # Replies name a post by its number within the topic; the first post of a topic is its root.
        "id": "{topic_id:id} || '/' || {post_number:id}",
        "conversation_id": "{topic_id:id} || '/1'",
        "reply_to": "CASE WHEN {post_number:id} <> '1'"
        " THEN {topic_id:id} || '/' || coalesce(nullif({reply_to_post_number:parent}, '0'), '1') END",
        "speaker": "coalesce({username}, 'user' || {user_id:id})",
        "text": "CASE WHEN {deleted_at:parent} IS NOT NULL OR is_true({user_deleted})"
        " OR {raw} = '(post deleted by author)' OR {raw} LIKE '(post withdrawn by author,%' THEN '[deleted]'"
        " ELSE coalesce({raw}, html_text({cooked})) END",
        "timestamp": "{created_at}",
        # The site's public interface gives likes as the second kind of action, if there are any.
        "score": "coalesce({like_count}, CASE WHEN {actions_summary} IS NOT NULL"
        " THEN coalesce(nullif(regexp_extract({actions_summary}, '.id.: ?2\\b[^{{}}]*?.count.: ?(\\d+)', 1), ''),"
        " nullif(regexp_extract({actions_summary}, '.count.: ?(\\d+)[^{{}}]*?.id.: ?2\\b', 1), ''), '0') END)",
        "title": "CASE {post_number:id} WHEN '1' THEN {topic_title} END",
        # What the site writes about a topic, such as that it was closed, is no utterance.
        "kind": "CASE {post_type:id} WHEN '3' THEN 't5_' END",
    },
)

# A topic with its posts, as its public interface gives it.
DISCOURSE_TOPICS = replace(
    DISCOURSE,
    name="Discourse topics",
    # Later pages of a topic have no title.
    fields=("post_stream.posts",),
    columns={**DISCOURSE.columns, "title": "CASE {post_number:id} WHEN '1' THEN {title} END"},
    inside="post_stream.posts",
    around=("title",),
)
