"""Submissions and comments of Voat and Ruqqus, whose votes are counted up and down."""

from adc_pipeline.corpus.layouts.layout import Layout

VOTES = "CAST(whole_number({upCount}) - whole_number({downCount}) AS VARCHAR)"
VOAT_COMMENTS = Layout(
    "Voat comments",
    ("id|commentID", "submissionID", "parentID", "content", "upCount", "downCount"),
    {
        "id": "coalesce({id:id}, {commentID:id})",
        "conversation_id": "{submissionID:id}",
        # The site's database has 0, and its public interface nothing, where a comment answers the submission.
        "reply_to": "coalesce(nullif({parentID:parent}, '0'), {submissionID:id})",
        "speaker": "{userName}",
        "text": "CASE WHEN is_true({isDeleted}) THEN '[deleted]' ELSE {content} END",
        "timestamp": "{creationDate}",
        "score": VOTES,
        "source": "{subverse}",
        "kind": "'t1_'",
        "parent_kind": "CASE WHEN nullif({parentID:parent}, '0') IS NULL THEN 't3_' ELSE 't1_' END",
    },
    has_roots=False,
)

VOAT_SUBMISSIONS = Layout(
    "Voat submissions",
    ("id|submissionID", "title", "userName", "upCount", "downCount"),
    {
        "id": "coalesce({id:id}, {submissionID:id})",
        "conversation_id": "coalesce({id:id}, {submissionID:id})",
        "speaker": "{userName}",
        "text": "{content}",
        "timestamp": "{creationDate}",
        "score": VOTES,
        "title": "{title}",
        "source": "{subverse}",
        "kind": "'t3_'",
    },
)

RUQQUS_COMMENTS = Layout(
    "Ruqqus comments",
    ("id", "post_id", "body", "author_name", "upvotes", "downvotes"),
    {
        "id": "{id:id}",
        "conversation_id": "{post_id:id}",
        # The list of a comment's ancestors ends with its parent.
        "reply_to": "coalesce(nullif(regexp_extract({parent_comment_id}, '(\\w+)\\W*$', 1), ''), {post_id:id})",
        "speaker": "{author_name}",
        "text": "CASE WHEN is_true({is_banned}) THEN '[removed]' WHEN is_true({is_deleted}) THEN '[deleted]'"
        " ELSE {body} END",
        "timestamp": "{created_utc}",
        "score": "coalesce({score}, CAST(whole_number({upvotes}) - whole_number({downvotes}) AS VARCHAR))",
        "source": "coalesce({guild.name}, {guild_name})",
        "kind": "'t1_'",
        "parent_kind": "CASE WHEN regexp_matches({parent_comment_id}, '\\w') THEN 't1_' ELSE 't3_' END",
    },
    has_roots=False,
)

RUQQUS_SUBMISSIONS = Layout(
    "Ruqqus submissions",
    # rDrama, which goes on with its code, calls a guild a hole.
    ("id", "title", "author_name", "upvotes", "downvotes", "guild_name|guild.name|hole|sub"),
    {
        "id": "{id:id}",
        "conversation_id": "{id:id}",
        "speaker": "{author_name}",
        "text": "{body}",
        "timestamp": "{created_utc}",
        "score": "coalesce({score}, CAST(whole_number({upvotes}) - whole_number({downvotes}) AS VARCHAR))",
        "title": "{title}",
        "source": "coalesce({guild_name}, {guild.name}, {hole}, {sub})",
        "kind": "'t3_'",
    },
)
