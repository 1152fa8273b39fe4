"""Known layouts of posts and comments, as data: which fields a file must have, and what they mean.

A layout is recognised by its fields, whatever container they come in: JSON lines, CSV, Parquet, Arrow or XML, packed
or not. Each of our columns is an SQL expression over the file's fields in braces, which stand for text, or null where
the file has no such field. A dot leads into an object, and names match in any case. `{field:id}` and `{field:parent}`
read an id and a reference to a parent (`readers.values`), `{field:number}` a number that may be missing;
`html_text()` takes tags off. Where a site numbers posts and comments apart, `kind` and `parent_kind` tell which an id
names, as Reddit's t3_ and t1_ do. `{root}` is the first utterance of a thread, where a site names no conversation.

To add a layout, add an entry here, a row to the documentation's table of what is read, and a small file to the tests.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

ScoreOrder = Literal["higher", "lower"]

# In `Layout.inside`: a record is itself one of those that are read.
ITSELF = "."


@dataclass(frozen=True)
class Layout:
    """One kind of record; the module's text explains the expressions."""

    name: str
    # A file has the layout where one of its records has all of these; `a|b` asks for one of the two.
    fields: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    # Whether a higher or a lower score is better; a lower one is read as its negative, so that higher is better.
    score_order: ScoreOrder = "higher"
    # Files with roots are read first.
    has_roots: bool = True
    # Where a record holds the records that are read (`ITSELF`: it is one of them); which of its own values they take
    # over; the keys of the replies that they hold in turn; and which field of a reply is which of what it answers, if
    # it does not say so itself.
    inside: str = ""
    # Further records stand there.
    beside: str = ""
    around: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    answers: tuple[str, str] = ("", "")
    # Why such a file is not read and what to do, as the end of a sentence.
    refused: str = ""
    # Often lies beside a corpus and holds no utterances: left out of a folder instead of ending the run.
    companion: bool = False

    def fits(self, keys: Collection[str]) -> bool:
        """Return whether a record with these keys (in lower case, dotted where nested) has this layout."""
        return all(any(name in keys for name in wanted.lower().split("|")) for wanted in self.fields)


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

STACK_EXCHANGE_POSTS = Layout(
    "Stack Exchange posts",
    ("Id", "PostTypeId", "Score", "Body"),
    {
        "id": "{Id:id}",
        # 1 is a question and 2 an answer.
        "conversation_id": "CASE {PostTypeId:id} WHEN '1' THEN {Id:id} WHEN '2' THEN {ParentId:id} END",
        "reply_to": "CASE {PostTypeId:id} WHEN '2' THEN {ParentId:parent} END",
        "speaker": "coalesce('user' || {OwnerUserId:id}, {OwnerDisplayName})",
        "text": "html_text({Body})",
        "timestamp": "{CreationDate}",
        "score": "{Score}",
        "title": "CASE {PostTypeId:id} WHEN '1' THEN {Title} END",
        # Others are texts about tags and the like, no part of a conversation.
        "kind": "CASE WHEN {PostTypeId:id} IN ('1', '2') THEN 't3_' ELSE 't5_' END",
        "parent_kind": "'t3_'",
    },
)

# Tables of questions and answers that others made of these, such as Google's; answers name a question.
STACK_EXCHANGE_TABLES = Layout(
    "Stack Exchange questions and answers",
    ("id", "body", "score", "OwnerUserId|owner_user_id", "CreationDate|creation_date", "ParentId|parent_id|title"),
    {
        "id": "{id:id}",
        "conversation_id": "coalesce({ParentId:parent}, {parent_id:parent}, {id:id})",
        "reply_to": "coalesce({ParentId:parent}, {parent_id:parent})",
        "speaker": "coalesce('user' || {OwnerUserId:id}, 'user' || {owner_user_id:id}, {owner_display_name})",
        "text": "html_text({body})",
        "timestamp": "coalesce({CreationDate}, {creation_date})",
        "score": "{score}",
        "title": "CASE WHEN coalesce({ParentId:parent}, {parent_id:parent}) IS NULL THEN {title} END",
        "kind": "CASE WHEN {post_type_id:id} NOT IN ('1', '2') THEN 't5_' ELSE 't3_' END",
        "parent_kind": "'t3_'",
    },
)

STACK_EXCHANGE_COMMENTS = Layout(
    "Stack Exchange comments",
    ("Id", "PostId", "Score", "Text"),
    {
        "id": "{Id:id}",
        # Not in the file: `corpus.fields` adds the question that the post belongs to.
        "conversation_id": "{QuestionId:id}",
        "reply_to": "{PostId:parent}",
        "speaker": "coalesce('user' || {UserId:id}, {UserDisplayName})",
        "text": "{Text}",
        "timestamp": "{CreationDate}",
        "score": "{Score}",
        "kind": "'t1_'",
        "parent_kind": "'t3_'",
    },
    has_roots=False,
)

# A question, its answers inside it, and comments inside both, as the public interface gives them. Questions and answers
# are numbered together, comments apart.
STACK_EXCHANGE_QUESTIONS = Layout(
    "Stack Exchange questions of its public interface",
    (
        "question_id|answer_id|comment_id", "score", "creation_date", "body|body_markdown",
        "owner|owner.display_name|owner.user_id|owner.user_type",
    ),
    {
        "id": "coalesce({comment_id:id}, {answer_id:id}, {question_id:id})",
        "conversation_id": "{question_id:id}",
        "reply_to": "CASE WHEN {comment_id:id} IS NOT NULL THEN {post_id:parent}"
        " WHEN {answer_id:id} IS NOT NULL THEN {question_id:parent} END",
        "speaker": "coalesce(html_text({owner.display_name}), 'user' || {owner.user_id:id})",
        "text": "coalesce(html_text({body}), {body_markdown})",
        "timestamp": "{creation_date}",
        "score": "{score}",
        "title": "CASE WHEN coalesce({comment_id:id}, {answer_id:id}) IS NULL THEN {title} END",
        "kind": "CASE WHEN {comment_id:id} IS NULL THEN 't3_' ELSE 't1_' END",
        "parent_kind": "'t3_'",
    },
    inside=ITSELF,
    children=("answers", "comments"),
    answers=("question_id", "question_id"),
)  # fmt: skip

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

# Messages of chats, whose score is the number of reactions.
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

# Comments on a video, of which the first of a thread is the root.
YOUTUBE = Layout(
    "YouTube comments",
    ("id|commentId|comment_id", "textOriginal|textDisplay", "likeCount"),
    {
        "id": "coalesce({id:id}, {commentId:id}, {comment_id:id})",
        "conversation_id": "coalesce({parentId:parent}, {parent_id:parent}, {id:id}, {commentId:id}, {comment_id:id})",
        "reply_to": "coalesce({parentId:parent}, {parent_id:parent})",
        "speaker": "{authorDisplayName}",
        "text": "coalesce({textOriginal}, html_text({textDisplay}))",
        "timestamp": "{publishedAt}",
        "score": "{likeCount}",
    },
)

YOUTUBE_COMMENTS = replace(
    YOUTUBE,
    name="YouTube comments of its public interface",
    fields=("id", "snippet.textOriginal|snippet.textDisplay", "snippet.likeCount"),
    columns={
        name: re.sub(r"\{(?!id:|comment)", "{snippet.", expression) for name, expression in YOUTUBE.columns.items()
    },
)

# Each comment with some of its answers.
YOUTUBE_THREADS = replace(
    YOUTUBE_COMMENTS,
    name="YouTube threads of its public interface",
    fields=("id", "snippet.topLevelComment.snippet", "snippet.videoId"),
    inside="snippet.topLevelComment",
    beside="replies.comments",
)

# What youtube-comment-downloader writes: the id of an answer has that of what it answers before a point.
YOUTUBE_DOWNLOADER = Layout(
    "YouTube comments of youtube-comment-downloader",
    ("cid", "text", "author", "votes", "time"),
    {
        "id": "{cid:id}",
        "conversation_id": "split_part({cid:id}, '.', 1)",
        "reply_to": "CASE WHEN contains({cid:id}, '.') THEN split_part({cid:id}, '.', 1) END",
        "speaker": "{author}",
        "text": "{text}",
        "timestamp": "{time_parsed}",
        "score": "coalesce(nullif({votes}, ''), '0')",
    },
)

# What yt-dlp writes of a video: the video is the root.
YT_DLP = Layout(
    "videos with their comments, as yt-dlp writes them",
    ("id", "title", "extractor", "webpage_url", "comments"),
    {
        "id": "{id:id}",
        "conversation_id": "coalesce({video:id}, {id:id})",
        "reply_to": "coalesce(nullif({parent:parent}, 'root'), {video:id})",
        "speaker": "coalesce({author}, {uploader})",
        "text": "CASE WHEN {video} IS NULL THEN {description} ELSE {text} END",
        "timestamp": "{timestamp}",
        "score": "{like_count}",
        "title": "{title}",
    },
    inside=ITSELF,
    children=("comments",),
    answers=("video", "id"),
)

# Comments below an article, of which the first of a thread is the root.
DISQUS = Layout(
    "Disqus posts of its public interface",
    ("id", "parent", "thread|thread.id", "message", "likes|points", "createdAt", "raw_message|isDeleted|isSpam"),
    {
        "id": "{id:id}",
        "conversation_id": "{root}",
        "reply_to": "{parent:parent}",
        "speaker": "coalesce({author.name}, {author.username})",
        "text": "CASE WHEN is_true({isDeleted}) THEN '[deleted]'"
        " ELSE coalesce({raw_message}, html_text({message})) END",
        "timestamp": "{createdAt}",
        "score": "coalesce({points}, CAST(whole_number({likes}) - coalesce(whole_number({dislikes}), 0) AS VARCHAR))",
    },
)

NO_SCORE = (
    ", which carry no score, so there is nothing to rank replies by: give the setting corpus (or ADC_CORPUS) a corpus"
    " with scores"
)
IMAGE_BOARD = Layout("posts of 4chan", ("no", "resto", "time"), refused=f"holds posts of 4chan{NO_SCORE}")
IMAGE_BOARD_ARCHIVE = replace(IMAGE_BOARD, fields=("num", "subnum", "thread_num", "op"))
ACTIVITIES = Layout(
    "activities of ActivityPub",
    ("type", "actor", "object.content|object.inReplyTo|object.type"),
    refused=f"holds activities of ActivityPub{NO_SCORE}, such as statuses of Mastodon's interface",
)
ACTIVITY_BOX = replace(ACTIVITIES, fields=("type", "orderedItems"))
TELEGRAM_CHATS = Layout(
    "all chats of Telegram",
    ("chats.list",),
    refused="holds all chats of a Telegram account, whose messages are numbered apart: write each of `chats.list` to a"
    " file of its own",
)
TURNS = Layout(
    "turns of chats",
    ("role", "content"),
    refused="holds chats with a model as turns with a role, which carry no score and of which each has one answer, so"
    " there is nothing to rank: give the setting corpus (or ADC_CORPUS) a corpus with several scored replies",
)
NAMED_TURNS = replace(TURNS, fields=("from", "value"))
LISTS_OF_TURNS = replace(TURNS, fields=("conversations",))
SEARCH_ANSWER = Layout(
    "answer of Elasticsearch",
    ("hits.hits",),
    refused="is an answer of Elasticsearch, with its documents inside: write each on a line of its own, as"
    " `jq -c '.hits.hits[]'` does",
)

HACKER_NEWS = Layout(
    "Hacker News items",
    ("id", "type", "by", "time"),
    refused="holds Hacker News items, whose comments carry no score, so there is nothing to rank replies by: give the"
    " setting corpus (or ADC_CORPUS) a corpus with scores",
)

HACKER_NEWS_SEARCH = replace(
    HACKER_NEWS,
    name="Hacker News items, as its search gives them",
    fields=("objectID", "created_at_i", "author", "points"),
)

# The tables of comments that BigQuery had.
HACKER_NEWS_TABLE = replace(HACKER_NEWS, fields=("id", "by", "time_ts", "text"))

HACKER_NEWS_TREE = replace(
    HACKER_NEWS, name="Hacker News items with their replies", fields=("id", "type", "author", "points", "children")
)

REDDIT_LISTING = Layout(
    "listing of Reddit's public interface",
    ("kind", "data.children|data.body|data.selftext"),
    refused="is a listing of Reddit's public interface, which holds each post and comment inside another object: write"
    " what is in `data` of each as one line",
)

SUBREDDITS = Layout(
    "list of subreddits",
    ("id", "display_name", "subscribers"),
    refused="is a list of subreddits and holds no posts or comments: give the setting corpus (or ADC_CORPUS) the dumps"
    " of posts and comments",
    companion=True,
)

# The first that fits is taken.
LAYOUTS = (
    OPEN_ASSISTANT,
    OPEN_ASSISTANT_TREES,
    STACK_EXCHANGE_POSTS,
    STACK_EXCHANGE_COMMENTS,
    STACK_EXCHANGE_QUESTIONS,
    STACK_EXCHANGE_TABLES,
    LEMMY_COMMENTS,
    LEMMY_POSTS,
    LEMMY_POST,
    LEMMY_COMMENT_TABLE,
    LEMMY_POST_TABLE,
    POSTMILL_COMMENTS,
    POSTMILL_SUBMISSIONS,
    DISCOURSE,
    DISCOURSE_TOPICS,
    VOAT_COMMENTS,
    VOAT_SUBMISSIONS,
    RUQQUS_COMMENTS,
    RUQQUS_SUBMISSIONS,
    MASTODON,
    TWEETS,
    TWEETS_OF_VERSION_2,
    BLUESKY,
    TELEGRAM,
    SLACK,
    DISCORD,
    YOUTUBE,
    YOUTUBE_COMMENTS,
    YOUTUBE_THREADS,
    YOUTUBE_DOWNLOADER,
    YT_DLP,
    DISQUS,
    IMAGE_BOARD,
    IMAGE_BOARD_ARCHIVE,
    ACTIVITIES,
    ACTIVITY_BOX,
    TELEGRAM_CHATS,
    SEARCH_ANSWER,
    HACKER_NEWS,
    HACKER_NEWS_SEARCH,
    HACKER_NEWS_TABLE,
    HACKER_NEWS_TREE,
    REDDIT_LISTING,
    SUBREDDITS,
    TURNS,
    NAMED_TURNS,
    LISTS_OF_TURNS,
)

# Posts and comments of one site, and how a record is known as a post, for files that hold both.
SITES = (
    (LEMMY_POSTS, LEMMY_COMMENTS, "{comment.id} IS NULL"),
    (LEMMY_POST_TABLE, LEMMY_COMMENT_TABLE, "{path} IS NULL"),
    (POSTMILL_SUBMISSIONS, POSTMILL_COMMENTS, "{title} IS NOT NULL"),
    (VOAT_SUBMISSIONS, VOAT_COMMENTS, "{title} IS NOT NULL"),
    (RUQQUS_SUBMISSIONS, RUQQUS_COMMENTS, "{title} IS NOT NULL"),
)

# The fields of Reddit's own records; `readers.dumps` reads them.
# A comment that names no post has no conversation, so other sites' `parent_id` alone is none of Reddit's.
REDDIT_COMMENTS = Layout(
    "Reddit comments",
    ("id", "body", "link_id|parent_id", "link_id|subreddit|subreddit_id|created_utc"),
    has_roots=False,
)
REDDIT_SUBMISSIONS = Layout("Reddit posts", ("id", "title", "selftext"))
# Posts that were cut down to some columns, without their texts.
REDDIT_LINKS = Layout("Reddit posts", ("id", "title", "created_utc", "subreddit|num_comments|subreddit_id"))
# Comments that name their post in an address only, which does not tell what they answer, are refused.
REDDIT_ADDRESSES = Layout("Reddit comments", ("id", "body", "permalink", "author", "score"), has_roots=False)
REDDIT = (REDDIT_COMMENTS, REDDIT_SUBMISSIONS, REDDIT_LINKS, REDDIT_ADDRESSES)


def find_layout(records: Iterable[Collection[str]], layouts: Iterable[Layout] = LAYOUTS) -> Layout | None:
    """Return the first layout that fits one of the records, each given as its keys; None if none does."""
    lowered = [{key.lower() for key in keys} for keys in records]
    return next((layout for layout in layouts if any(layout.fits(keys) for keys in lowered)), None)


def row_by_row(found: Layout, records: Iterable[Collection[str]]) -> Layout:
    """Return a layout for JSON lines, which may hold posts and comments: each record is read as what it is.

    `found` is the layout of the first `records`. It stays where a site does not tell posts from comments.
    """
    for posts, comments, is_post in SITES:
        if found in (posts, comments):
            lowered = [{key.lower() for key in keys} for keys in records]
            has_roots = any(posts.fits(keys) and not comments.fits(keys) for keys in lowered)
            columns = {
                name: f"CASE WHEN {is_post} THEN {posts.columns.get(name, 'NULL')}"
                f" ELSE {comments.columns.get(name, 'NULL')} END"
                for name in {**posts.columns, **comments.columns}
            }
            return replace(found, columns=columns, has_roots=has_roots)
    return found
