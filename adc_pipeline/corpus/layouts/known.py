"""The layouts that are known, in the order in which they are looked for.

To add one, write it into the module of its site, list it here, add a row to the documentation's table of what is read,
and a small file to the tests.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from adc_pipeline.corpus.layouts.chats import DISCORD, SLACK, TELEGRAM, TELEGRAM_CHATS
from adc_pipeline.corpus.layouts.discourse import DISCOURSE, DISCOURSE_TOPICS
from adc_pipeline.corpus.layouts.disqus import DISQUS
from adc_pipeline.corpus.layouts.layout import Layout
from adc_pipeline.corpus.layouts.lemmy import (
    LEMMY_COMMENT_TABLE,
    LEMMY_COMMENTS,
    LEMMY_POST,
    LEMMY_POST_TABLE,
    LEMMY_POSTS,
)
from adc_pipeline.corpus.layouts.microblogs import BLUESKY, MASTODON, TWEETS, TWEETS_OF_VERSION_2
from adc_pipeline.corpus.layouts.open_assistant import OPEN_ASSISTANT, OPEN_ASSISTANT_TREES
from adc_pipeline.corpus.layouts.postmill import POSTMILL_COMMENTS, POSTMILL_SUBMISSIONS
from adc_pipeline.corpus.layouts.reddit import REDDIT_LISTING, SUBREDDITS
from adc_pipeline.corpus.layouts.stack_exchange import (
    STACK_EXCHANGE_COMMENTS,
    STACK_EXCHANGE_POSTS,
    STACK_EXCHANGE_QUESTIONS,
    STACK_EXCHANGE_TABLES,
)
from adc_pipeline.corpus.layouts.videos import YOUTUBE, YOUTUBE_COMMENTS, YOUTUBE_DOWNLOADER, YOUTUBE_THREADS, YT_DLP
from adc_pipeline.corpus.layouts.voat_and_ruqqus import (
    RUQQUS_COMMENTS,
    RUQQUS_SUBMISSIONS,
    VOAT_COMMENTS,
    VOAT_SUBMISSIONS,
)
from adc_pipeline.corpus.layouts.without_scores import (
    ACTIVITIES,
    ACTIVITY_BOX,
    HACKER_NEWS,
    HACKER_NEWS_SEARCH,
    HACKER_NEWS_TABLE,
    HACKER_NEWS_TREE,
    IMAGE_BOARD,
    IMAGE_BOARD_ARCHIVE,
    LISTS_OF_TURNS,
    NAMED_TURNS,
    SEARCH_ANSWER,
    TURNS,
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
