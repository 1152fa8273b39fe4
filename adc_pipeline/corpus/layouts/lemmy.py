"""Posts and comments of Lemmy: answers of its interface, and tables of its database."""

from dataclasses import replace

from adc_pipeline.corpus.layouts.layout import Layout

LEMMY_POSTS = Layout(
    "Lemmy posts",
    ("post.id", "post.name", "counts.score|post.score"),
    {
        "id": "{post.id:id}",
        "conversation_id": "{post.id:id}",
        "speaker": "coalesce({creator.name}, {post.creator_id})",
        "text": "{post.body}",
        "timestamp": "coalesce({post.published}, {post.published_at})",
        # Version 1 of its interface has the counts in the post itself.
        "score": "coalesce({counts.score}, {post.score})",
        "title": "{post.name}",
        "source": "{community.name}",
        "kind": "'t3_'",
    },
)

# The answer to a request for one post.
LEMMY_POST = replace(
    LEMMY_POSTS, name="Lemmy posts, one an answer", fields=("post_view.post", "post_view.counts"), inside="post_view"
)


def of_lemmy_comment(own: str, otherwise: str) -> dict[str, str]:
    """Return the fields that a Lemmy comment gives alike wherever it stands; the keys of its values begin with `own`.

    `otherwise` is what it answers if its path names no comment.
    """
    fields = {
        # The way down from the post, such as 0.6.7, where 7 is the comment itself and 6 what it answers.
        "reply_to": "coalesce(nullif(regexp_extract({own.path}, '^0\\.(?:\\d+\\.)*(\\d+)\\.\\d+$', 1), ''),"
        f" {otherwise})",
        # The last is what the site writes over the comments of an account that is deleted.
        "text": "CASE WHEN is_true({own.removed}) THEN '[removed]' WHEN is_true({own.deleted})"
        " OR {own.content} = '*Permanently Deleted*' THEN '[deleted]' ELSE {own.content} END",
        "timestamp": "coalesce({own.published}, {own.published_at})",
        "distinguished": "CASE WHEN is_true({own.distinguished}) THEN 'moderator' END",
        "kind": "'t1_'",
    }
    return {name: field.replace("{own.", f"{{{own}") for name, field in fields.items()}


LEMMY_COMMENTS = Layout(
    "Lemmy comments",
    ("comment.id", "comment.path|comment.parent_id", "comment.content", "counts.score|comment.score"),
    {
        # Before version 0.17 a comment names what it answers.
        **of_lemmy_comment("comment.", "{comment.parent_id:parent}, {comment.post_id:id}, {post.id:id}"),
        "id": "{comment.id:id}",
        "conversation_id": "coalesce({comment.post_id:id}, {post.id:id})",
        "speaker": "coalesce({creator.name}, {comment.creator_id})",
        "score": "coalesce({counts.score}, {comment.score})",
        "source": "{community.name}",
        "parent_kind": "CASE WHEN {comment.path} LIKE '0.%.%' OR {comment.parent_id:parent} IS NOT NULL THEN 't1_'"
        " ELSE 't3_' END",
    },
    has_roots=False,
)

# Tables of its database, with the score that another one has.
LEMMY_POST_TABLE = Layout(
    "Lemmy posts as a table",
    ("id", "name", "community_id", "creator_id", "score"),
    {
        "id": "{id:id}",
        "conversation_id": "{id:id}",
        "speaker": "coalesce({creator_name}, {creator_id:id})",
        "text": "CASE WHEN is_true({removed}) THEN '[removed]' WHEN is_true({deleted}) THEN '[deleted]'"
        " ELSE {body} END",
        "timestamp": "coalesce({published}, {published_at})",
        "score": "{score}",
        "title": "{name}",
        "source": "{community_name}",
        "kind": "'t3_'",
    },
)

LEMMY_COMMENT_TABLE = Layout(
    "Lemmy comments as a table",
    ("id", "post_id", "path", "content", "score"),
    {
        **of_lemmy_comment("", "{post_id:id}"),
        "id": "{id:id}",
        "conversation_id": "{post_id:id}",
        "speaker": "coalesce({creator_name}, {creator_id:id})",
        "score": "{score}",
        "source": "{community_name}",
        "parent_kind": "CASE WHEN {path} LIKE '0.%.%' THEN 't1_' ELSE 't3_' END",
    },
    has_roots=False,
)
