"""Find what a held-out split, by default the test split, shares with the training split: repeated roots, and speakers.

Splits are a hash of the conversation's id, so that a question that is asked twice, or posted again elsewhere, can be in
both. A model may then have read replies to the very root that it is tested on. Roots are compared by title and text
after folding case, Unicode composition, punctuation and white space; each root is folded once, and the two splits are
joined by a hash. A root without title and text equals no other, and a note of removal is no text. By default, roots and
whole conversations that are only nearly alike are looked for as well (`corpus.near_duplicates.near_matches`).

Cost: 1.6 s of one core for the 31,547 conversations of both splits of `reddit-college`, most of it for folding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import only_row
from adc_pipeline.corpus.missing_texts import create_text_macros
from adc_pipeline.corpus.near_duplicates.minhash import FEW_WORDS
from adc_pipeline.corpus.near_duplicates.near_matches import FOLDED, near_matches
from adc_pipeline.evaluation.formatting import number
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Conversations of two sites may have one id (`corpus.namespaces`), and a dataset does not hold namespaces. Its rows of
# one conversation id and walk number are ordered by them, so the nth belongs to the nth conversation of that id with
# replies.
WALKED = """
CREATE TABLE walked AS
SELECT u.position, u.conversation_id, u.namespace, u.source, s.held_out,
    row_number() OVER (PARTITION BY u.conversation_id ORDER BY u.namespace) AS place,
    count(*) OVER (PARTITION BY u.conversation_id) > 1 AS shared
FROM rendered_roots AS u SEMI JOIN (
    SELECT parent_position AS position FROM read_parquet($ranked, hive_partitioning = false) WHERE depth = 1
) AS answered USING (position) JOIN (
    SELECT conversation_id, true AS held_out FROM read_parquet($held_out, hive_partitioning = false) GROUP BY ALL
    UNION ALL SELECT conversation_id, false FROM read_parquet($train, hive_partitioning = false) GROUP BY ALL
) AS s USING (conversation_id)
"""

REPEATED_ROOTS = """
CREATE TABLE repeated_roots AS
WITH folded_roots AS (
    SELECT position, held_out, folded(title) AS title,
        CASE WHEN is_note_of_removal(trim(text)) THEN '' ELSE folded(text) END AS text
    FROM (SELECT position, title, text FROM rendered_roots) AS u JOIN walked USING (position)
), keys AS (
    SELECT position, held_out, md5(title || chr(10) || text) AS key FROM folded_roots WHERE title <> '' OR text <> ''
)
SELECT position FROM keys SEMI JOIN (FROM keys WHERE NOT held_out) AS trained USING (key) WHERE held_out
"""

NEAR_ROOTS = """
SELECT position AS number, held_out,
    title || ' ' || CASE WHEN is_note_of_removal(trim(text)) THEN '' ELSE text END AS text
FROM (SELECT position, title, text FROM rendered_roots) AS u JOIN walked USING (position)
"""
# The text of a conversation without its root: its replies that take part, in the order of the source. Conversations of
# few words are left out, since they are often alike and no copies.
NEAR_CONVERSATIONS = """
SELECT w.position AS number, w.held_out, string_agg(u.text, ' ' ORDER BY u.position) AS text
FROM read_parquet($ranked, hive_partitioning = false) AS r
    JOIN (SELECT position, namespace, conversation_id, text FROM rendered_replies) AS u USING (position)
    JOIN walked AS w ON w.namespace = u.namespace AND w.conversation_id = u.conversation_id
GROUP BY ALL HAVING len(string_split(text, ' ')) >= $words
"""

# Speakers of the replies that take part. A deleted account is nobody. In training, the root's speaker counts too.
SPEAKERS = """
WITH tested AS (
    SELECT u.namespace, u.speaker, count(*) AS replies
    FROM replies JOIN (SELECT position, namespace, speaker FROM read_rows) AS u USING (position)
    WHERE trim(u.speaker) <> '' AND NOT is_note_of_removal(trim(u.speaker))
    GROUP BY ALL
), trained AS (
    SELECT position FROM walked WHERE NOT held_out
    UNION ALL
    SELECT position FROM read_parquet($ranked, hive_partitioning = false)
        SEMI JOIN (FROM walked WHERE NOT held_out) AS w USING (conversation_id)
), known AS (
    SELECT DISTINCT namespace, speaker FROM read_rows SEMI JOIN trained USING (position)
        SEMI JOIN tested USING (namespace, speaker)
)
SELECT count(*) AS speakers, avg((known.speaker IS NOT NULL)::DOUBLE) AS known_speakers,
    sum(replies) FILTER (known.speaker IS NOT NULL)::DOUBLE / sum(replies)::DOUBLE AS known_replies
FROM tested LEFT JOIN known USING (namespace, speaker)
"""


# The mean score of each speaker's replies in training, and, with no name, of all of them.
SPEAKER_SCORES = """
CREATE TABLE speaker_scores AS
WITH scored AS (
    SELECT position, score FROM read_parquet($ranked, hive_partitioning = false)
        SEMI JOIN (FROM walked WHERE NOT held_out) AS w USING (conversation_id)
)
SELECT namespace, speaker, avg(score) AS mean
FROM (SELECT position, namespace, trim(speaker) AS name, speaker FROM read_rows) JOIN scored USING (position)
WHERE name <> '' AND NOT is_note_of_removal(name) GROUP BY namespace, speaker
UNION ALL SELECT NULL, NULL, avg(score) FROM scored
"""


@dataclass(frozen=True)
class Leakage:
    """What the test split shares with the training split.

    `repeated_roots` counts the test conversations whose root also occurs in training, `left_out` those of them that are
    excluded: all or none. `near` of the `repeated_roots` are only nearly in training, root or whole conversation; None
    if that was not looked for. `speakers` counts the authors of the evaluated replies. `known_speakers` is the share of
    them who also wrote in a training conversation, and `known_replies` the share of the replies by them; None without
    authors.
    """

    repeated_roots: int
    left_out: int
    speakers: int
    known_speakers: float | None
    known_replies: float | None
    near: int | None = None

    def counts(self) -> dict[str, float | None]:
        """Return the figures by their metric names."""
        return {
            "conversations.root_in_training": self.repeated_roots,
            "conversations.left_out": self.left_out,
            "speakers": self.speakers,
            "speakers.in_training": self.known_speakers,
            "speakers.in_training.replies": self.known_replies,
            **({} if self.near is None else {"conversations.nearly_in_training": self.near}),
        }


def create_walked(
    connection: "DuckDBPyConnection", dataset: Path, ranked: list[str], split: Split, near: bool = False
) -> None:
    """Create the tables `walked`, the conversations of a held-out and of the training split, and `repeated_roots`.

    Needs the views of `walks.rendering`. `ranked` are the files of the ranked replies. `repeated_roots` holds the
    positions of the roots of the held-out split that also occur in training; with `near`, also those of conversations
    that are nearly like one of training, and `near_roots` those that are not equal.
    """
    files = {"held_out": split_files(dataset, split), "train": split_files(dataset, "train")}
    create_text_macros(connection)
    connection.execute(FOLDED)
    connection.execute(WALKED, {"ranked": ranked, **files})
    connection.execute(REPEATED_ROOTS)
    if near:
        connection.execute("CREATE TABLE near_roots (position BIGINT)")
        found = near_matches(connection, NEAR_ROOTS)
        found |= near_matches(connection, NEAR_CONVERSATIONS, {"ranked": ranked, "words": FEW_WORDS})
        for position in sorted(found):
            connection.execute("INSERT INTO near_roots SELECT $1 WHERE $1 NOT IN (FROM repeated_roots)", [position])
        connection.execute("INSERT INTO repeated_roots FROM near_roots")


def read_leakage(connection: "DuckDBPyConnection", ranked: list[str], exclude: bool, compared: bool = False) -> Leakage:
    """Return what the test split, and the replies of the table `replies`, share with the training split.

    `compared` says that `create_walked` has looked for conversations that are nearly alike.
    """
    roots = only_row(connection, "SELECT count(*) AS repeated_roots FROM repeated_roots")["repeated_roots"]
    found = only_row(connection, SPEAKERS, {"ranked": ranked})
    near = only_row(connection, "SELECT count(*) AS near FROM near_roots")["near"] if compared else None
    return Leakage(roots, roots if exclude else 0, **found, near=near)


def leakage_sentences(counts: Mapping[str, float | None]) -> list[str]:
    """Return sentences on what the test split shares with the training split, from an evaluation's counts."""
    sentences = repeated_roots(counts)
    if speakers := counts["speakers"]:
        sentences.append(
            f"Of the {speakers:,} authors of the evaluated replies, a share of"
            f" {number(counts['speakers.in_training'])} also wrote in the training split;"
            f" {number(counts['speakers.in_training.replies'])} of the replies are theirs."
        )
    return sentences


def repeated_roots(counts: Mapping[str, float | None]) -> list[str]:
    """Return sentences on the conversations of the test split that are also, or nearly, in the training split."""
    repeated, left_out = counts["conversations.root_in_training"] or 0, counts["conversations.left_out"]
    outcome = "are excluded" if left_out else "are evaluated all the same, because the sample has few distinct roots"
    found = f"{repeated:,} test conversations whose root also occurs in the training split {outcome}."
    sentences = [found if repeated else "No root of the test split occurs in the training split."]
    if repeated and (near := counts.get("conversations.nearly_in_training")) is not None:
        sentences.append(f"{near:,} of them are not equal to one of training but nearly alike, root or conversation.")
    return sentences
