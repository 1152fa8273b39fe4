"""What is known and refused by a sentence, most of it since no reply has a score."""

from dataclasses import replace

from adc_pipeline.corpus.layouts.layout import Layout

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
