"""Posts and comments of Reddit, by which its tables and dumps are recognised."""

from adc_pipeline.corpus.layouts.layout import Layout

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
