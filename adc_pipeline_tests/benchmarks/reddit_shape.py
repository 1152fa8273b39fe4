"""Generate corpora of any size in ConvoKit's format with the shape of Reddit's, by DuckDB.

Thread sizes follow a power law (exponent 1.25, cut at 20,000). One post in ten has no reply, and the mean is about 30
utterances, between the 36 of `reddit-corpus-small` and the 10 of a small subreddit. Four replies in ten answer the
post, the others mostly a recent reply. Texts are invented words with the frequencies of a language, 150 characters on
average; ids and metadata are as long as real ones. Of the replies 5 % are deleted, 3 % contain HTML entities and 0.2 %
answer a missing utterance; one post in three has a moderator's reply at the top.

The other shapes are extreme cases: chains of 20,000 replies, posts with 200,000 replies, and conversations with one
reply. There nothing is deleted, so that walks are as long as possible.

All values are hashes of the row number, so a corpus is always the same. Ten million utterances (5.2 GB) take 27 to 42 s
on 2 cores. A corpus that is larger than the disk is written piece by piece: each has conversations of its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Shape = Literal["reddit", "chain", "wide", "pairs"]

# A uniform number from 0 to 1 for each row and name.
UNIFORM = "CREATE MACRO uniform(n, what) AS (hash(n, what) % 1000003) / 1000003.0"

WORDS = """
CREATE TABLE words AS
SELECT range AS word, left(translate(md5(range::VARCHAR), '0123456789abcdef', 'etaoinshrdlucmfw'),
    2 + (hash(range) % 7)::INT) AS spelt
FROM range(4096)
"""

SENTENCES = """
CREATE TABLE sentences AS
SELECT sentence, string_agg(spelt, ' ') || '. ' AS spelt FROM (
    SELECT range AS sentence, unnest(range(3 + (hash(range, 'length') % 16)::INT)) AS place FROM range(262144)
) JOIN words ON word = (power(uniform(sentence, place), 3) * 4096)::INT
GROUP BY sentence
"""

# Number of utterances in a conversation, the post included.
SIZES: dict[Shape, str] = {
    "reddit": "CASE WHEN uniform(c, 'alone') < 0.1 THEN 1"
    " ELSE least(20000, floor(7.5 * power(1 - uniform(c, 'size'), -0.8)))::BIGINT END",
    "chain": "20001",
    "wide": "200001",
    "pairs": "2",
}

# Place in the conversation of the parent of the reply at place `k`.
PARENTS: dict[Shape, str] = {
    "reddit": "CASE WHEN uniform(n, 'top') < 0.4 THEN 0"
    " ELSE k - 1 - floor((k - 1) * power(uniform(n, 'parent'), 4))::BIGINT END",
    "chain": "k - 1",
    "wide": "0",
    "pairs": "0",
}

CONVERSATIONS = """
CREATE TABLE conversations AS
SELECT c, size, ($piece * ($n + 1000000) + ends - size)::BIGINT AS first FROM (
    SELECT c, size, sum(size) OVER (ORDER BY c) AS ends
    FROM (SELECT range AS c, {size} AS size FROM range($piece * $n, ($piece + 1) * $n))
) WHERE ends - size < $n
"""

UTTERANCES = """
COPY (
    WITH placed AS (
        SELECT c, k, first, first + k AS n FROM (SELECT c, first, unnest(range(size)) AS k FROM conversations)
    ), answering AS (
        SELECT *, CASE WHEN k > 0 THEN {parent} END AS parent FROM placed
    ), named AS (
        SELECT *, lower(to_base(40000000000 + n, 36)) AS id, lower(to_base(40000000000 + first, 36)) AS post,
            lower(to_base(40000000000 + first + parent, 36)) AS answers, uniform(n, 'length') AS length,
            {disturbed} AND k = 1 AND c % 3 = 0 AS moderators, {disturbed} AND k > 0 AS disturbed
        FROM answering
    )
    SELECT id, post AS conversation_id,
        CASE WHEN disturbed AND uniform(n, 'deleted') < 0.05 THEN '[deleted]' ELSE concat(
            a.spelt, CASE WHEN length < 0.6 THEN b.spelt END, CASE WHEN length < 0.35 THEN d.spelt || e.spelt END,
            CASE WHEN length < 0.03 THEN '&gt; x &amp;amp; y' END) END AS text,
        CASE WHEN moderators THEN 'AutoModerator'
            ELSE 'user_' || to_base((power(uniform(n, 'speaker'), 2) * 3000000)::BIGINT, 36) END AS speaker,
        {{score: (CASE WHEN uniform(n, 'one') < 0.4 THEN 1
                ELSE floor(power(uniform(n, 'score') + 0.000001, -0.8)) - hash(n, 'down') % 5 END)::BIGINT,
            top_level_comment: CASE WHEN k > 0 THEN lower(to_base(40000000000 + first + 1, 36)) END,
            retrieved_on: 1540000000 + n % 1000000, gilded: 0, gildings: {{gid_1: 0, gid_2: 0, gid_3: 0}},
            subreddit: 'sub' || c % 100, stickied: moderators,
            permalink: '/r/sub' || c % 100 || '/comments/' || post || '/a_title/' || id || '/',
            author_flair_text: ''}} AS meta,
        CASE WHEN disturbed AND uniform(n, 'missing') < 0.002 THEN 'gone' ELSE answers END AS "reply-to",
        1536000000 + n // 40 + k * 7 AS timestamp, [] AS vectors
    FROM named JOIN sentences AS a ON a.sentence = hash(n, 'a') % 262144
        JOIN sentences AS b ON b.sentence = hash(n, 'b') % 262144
        JOIN sentences AS d ON d.sentence = hash(n, 'd') % 262144
        JOIN sentences AS e ON e.sentence = hash(n, 'e') % 262144
) TO $path (FORMAT json)
"""

TITLES = """
SELECT lower(to_base(40000000000 + first, 36)), t.spelt, 'sub' || c % 100
FROM conversations JOIN sentences AS t ON t.sentence = hash(c, 'title') % 262144
"""


def write_corpus(folder: Path, utterances: int, shape: Shape = "reddit", piece: int = 0) -> int:
    """Write a corpus of at least so many utterances into the folder; return the number of conversations.

    It shares no conversation with another `piece` of this size.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET temp_directory = $1", [str(folder / "spill")])
        connection.execute("SET enable_progress_bar = false")
        connection.execute(UNIFORM)
        for statement in (WORDS, SENTENCES):
            connection.execute(statement)
        connection.execute(CONVERSATIONS.format(size=SIZES[shape]), {"n": utterances, "piece": piece})
        path = {"path": str(folder / "utterances.jsonl")}
        connection.execute(UTTERANCES.format(parent=PARENTS[shape], disturbed=shape == "reddit"), path)
        number = 0
        with (folder / "conversations.json").open("w") as file:
            for number, (conversation, title, subreddit) in enumerate(rows(connection), 1):
                entry = {"meta": {"title": title, "subreddit": subreddit, "num_comments": 5, "domain": "self"}}
                file.write(f"{',' if number > 1 else '{'}{json.dumps(conversation)}: {json.dumps(entry)}")
            file.write("}")
    (folder / "corpus.json").write_text("{}")
    (folder / "speakers.json").write_text("{}")
    # Written last, so that it marks a complete corpus.
    parts = ("utterances", "conversations", "speakers", "overall")
    (folder / "index.json").write_text(json.dumps({f"{part}-index": {} for part in parts} | {"version": 1}))
    return number


def rows(connection: "DuckDBPyConnection") -> Iterator[tuple[str, str, str]]:
    found = connection.execute(TITLES)
    while batch := found.fetchmany(50_000):
        yield from batch
