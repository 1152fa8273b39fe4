"""Comments on videos: YouTube's interface, and what people use to save them."""

import re
from dataclasses import replace

from adc_pipeline.corpus.layouts.layout import ITSELF, Layout

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
