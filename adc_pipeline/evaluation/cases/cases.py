"""Read the cases of an evaluation from the conversations of one held-out split, and from no others.

The split is the test split, or the validation split, on which promotion decides (`validation`). The dataset's file of
the split determines those conversations; those whose root also occurs in training are excluded (`leakage`). DuckDB
pairs siblings and finds turns for steering, set-based and, where a cap applies, in a fixed hash order; Python then only
concatenates contexts (`conversations`) and returns arrays (`case_sets`). Cost: about 0.1 s for the sample's 175
conversations of 1,189 replies.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import parts
from adc_pipeline.evaluation.arrays import Bools
from adc_pipeline.evaluation.cases.case_sets import (
    BEFORE,
    MOST_SHOWN,
    Contrasts,
    Improvements,
    Pairs,
    Steerings,
    Turns,
    table,
)
from adc_pipeline.evaluation.cases.contrasts import Strangers, contrast_rows
from adc_pipeline.evaluation.cases.conversations import CHOSEN, REPLIES, Conversations, QueryNumbers
from adc_pipeline.evaluation.cases.leakage import SPEAKER_SCORES, Leakage, create_walked, read_leakage
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.training.layout import segments
from adc_pipeline.walks.datasets import split_files
from adc_pipeline.walks.markers import FORMATS, FormatName, Verdict
from adc_pipeline.walks.rendering import Speakers, create_rendered
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


# The measures that have cases, without their readings.
FAMILIES = (
    "preference_accuracy",
    "steering",
    "in_context_improvement",
    "rejection_contrast",
    "verdict_calibration",
    "bits_per_byte",
    "perplexity",
)


@dataclass(frozen=True)
class Context:
    """A place on the accepted path of a conversation, where a model is asked for replies."""

    conversation: int
    case: str  # id of the utterance that is replied to
    background: str
    turns: tuple[tuple[str, Verdict], ...]  # the accepted path
    siblings: tuple[str, ...]  # people's replies but the best, worst first


@dataclass(frozen=True)
class Cases:
    """All cases, the queries that they refer to, and the conversations that they come from."""

    conversations: list[str]
    test_conversations: int
    queries: list[Query]
    own_verdicts: list[Verdict] | None  # (queries,) the segment's verdict, if the model reads it before the turn
    ask_text: Bools  # (queries,) whether the segment's log-probability is needed
    pairs: Pairs
    steerings: Steerings
    turns: Turns
    improvements: Improvements
    contrasts: Contrasts
    contexts: list[Context]  # one a conversation, of the first conversations
    leakage: Leakage


# Earlier replies have had more time to be seen. Matching on time takes, of the pairs written within an hour and about
# equally far apart (by powers of two of seconds), as many whose better reply is the earlier one as ones whose better
# reply is the later one; a fixed hash chooses. Pairs of equal times are kept.
# DialogRPT pairs neighbours in time; a rank there is a score's place among the distinct scores, from 0 to 1.
PAIRS = """
WITH ranked AS (
    SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, score, id, position) AS turn,
        (dense_rank() OVER (PARTITION BY parent ORDER BY score) - 1)
            / nullif(count(DISTINCT score) OVER (PARTITION BY parent) - 1, 0) AS height
    FROM replies
),
best AS (
    SELECT *, dense_rank() OVER (PARTITION BY conversation ORDER BY md5(reply_to), reply_to, parent) AS place
    FROM (SELECT *, count(*) OVER (PARTITION BY parent) AS shown FROM ranked WHERE rank <= $siblings)
    WHERE shown > 1
),
paired AS (
    SELECT a.conversation, a.position AS better, b.position AS worse, a.bytes AS better_bytes, b.bytes AS worse_bytes,
        a.score - b.score AS gap, coalesce(abs(a.timestamp - b.timestamp) <= 3600, false) AS within_hour,
        coalesce(a.timestamp > b.timestamp AND a.score >= 2 * b.score AND b.score >= 2, false) AS later_doubled,
        within_hour AND abs(a.turn - b.turn) = 1 AND gap >= 20 AND a.height - b.height >= 0.5 AS dialogrpt,
        coalesce(sign(a.timestamp - b.timestamp), 0) AS later,
        floor(log2(greatest(abs(a.timestamp - b.timestamp), 1))) AS apart,
        a.speaker_mean = b.speaker_mean AS speaker_free,
        coalesce(a.timestamp, 0) AS better_time, coalesce(b.timestamp, 0) AS worse_time,
        a.speaker_mean AS better_speaker, b.speaker_mean AS worse_speaker,
        row_number() OVER (
            ORDER BY a.conversation, a.reply_to, a.parent, a.rank, a.id, b.rank, b.id
        ) AS number,
        md5(a.id || '>' || b.id) AS shuffle
    FROM best AS a JOIN best AS b ON a.parent = b.parent AND a.score > b.score
    WHERE a.place <= $groups
),
matched AS (
    SELECT *, row_number() OVER (PARTITION BY within_hour, apart, later ORDER BY shuffle, number) AS place,
        least(count_if(later > 0) OVER alike, count_if(later < 0) OVER alike) AS most
    FROM paired WINDOW alike AS (PARTITION BY within_hour, apart)
)
SELECT conversation, better, worse, better_bytes, worse_bytes, gap, within_hour, later_doubled, dialogrpt,
    within_hour AND (later = 0 OR place <= most) AS time_matched, speaker_free,
    better_time, worse_time, better_speaker, worse_speaker
FROM matched ORDER BY number
"""

# The best-ranked sibling other than X, and the best-ranked reply to X.
STEERINGS = """
WITH steerable AS (
    SELECT x.conversation, x.position, x.id, s.position AS sibling, r.position AS reply,
        s.bytes AS sibling_bytes, r.bytes AS reply_bytes,
        row_number() OVER (PARTITION BY x.conversation ORDER BY md5(x.id), x.id, x.position) AS place
    FROM replies AS x
    JOIN replies AS s ON s.parent = x.parent AND s.rank = CASE x.rank WHEN 1 THEN 2 ELSE 1 END
    JOIN replies AS r ON r.parent = x.position AND r.rank = 1
)
SELECT conversation, position, sibling, reply, sibling_bytes, reply_bytes FROM steerable WHERE place <= $steering
ORDER BY conversation, id, position
"""

WALKS = """
SELECT c.number, w.walk, w.text, w.turns
FROM (
    SELECT *, row_number() OVER (PARTITION BY conversation_id, walk ORDER BY file_row_number) AS place
    FROM read_parquet($held_out, hive_partitioning = false, file_row_number = true)
) AS w LEFT JOIN chosen AS c USING (conversation_id, place)
WHERE coalesce(c.number < $most, true) ORDER BY c.number, w.walk
"""


# Sibling groups of the first conversations, worst first.
GROUPS = """
SELECT conversation, parent, reply_to, list(position ORDER BY rank DESC, id DESC, position DESC)
FROM replies WHERE conversation < $most GROUP BY ALL ORDER BY conversation, parent
"""


def pairs(
    connection: "DuckDBPyConnection", trees: Conversations, numbers: QueryNumbers, settings: EvaluationSettings
) -> Pairs:
    def rows() -> Iterator[tuple[Any, ...]]:
        caps = {"siblings": settings.max_siblings, "groups": settings.max_groups}
        found = connection.execute(PAIRS, caps).fetchall()
        groups: dict[int, dict[int, None]] = {}
        for _, better, worse, *_ in found:
            groups.setdefault(trees.parent[better], {}).update({better: None, worse: None})
        for conversation, better, worse, *rest in found:
            context = (trees.background[conversation], trees.ancestors(better))
            siblings = tuple(trees.segment[reply] for reply in groups[trees.parent[better]])
            queries = [
                numbers.verdict_after(Query(*context, trees.segment[reply], siblings)) for reply in (better, worse)
            ]
            yield (conversation, f"{trees.id[better]}>{trees.id[worse]}", *queries, *rest)

    return table(Pairs, rows())


def steerings(
    connection: "DuckDBPyConnection", trees: Conversations, numbers: QueryNumbers, settings: EvaluationSettings
) -> Steerings:
    verdicts: tuple[Verdict, Verdict] = ("rejected", "accepted")

    def rows() -> Iterator[tuple[Any, ...]]:
        caps = {"steering": settings.max_steering}
        for conversation, turn, sibling, reply, *sizes in connection.execute(STEERINGS, caps).fetchall():
            above, segment = trees.ancestors(turn), trees.segment[turn]
            queries = [
                numbers.text_of(
                    Query(trees.background[conversation], (*above, (segment, verdict)), trees.segment[next])
                )
                for next in (sibling, reply)
                for verdict in verdicts
            ]
            yield (conversation, trees.id[turn], *queries, *sizes)

    return table(Steerings, rows())


def contexts(connection: "DuckDBPyConnection", trees: Conversations, most: int) -> list[Context]:
    """Return one place on the accepted path of each of the first conversations.

    The accepted path goes from the root to its best reply, and so on. Of the places on it with two or more replies, or
    else of all, the smallest MD5 digest of the id decides.
    """
    groups: dict[int, dict[int, tuple[str, list[int]]]] = {}
    for conversation, parent, id, replies in connection.execute(GROUPS, {"most": most}).fetchall():
        groups.setdefault(conversation, {})[parent] = (id, replies)
    found = []
    for conversation, by_parent in groups.items():
        place = next(parent for parent in by_parent if parent not in trees.parent)
        path = []
        while place in by_parent:
            path.append(by_parent[place])
            place = path[-1][1][-1]
        id, replies = min(
            [group for group in path if len(group[1]) > 1] or path,
            key=lambda group: (hashlib.md5(group[0].encode(), usedforsecurity=False).hexdigest(), group[0]),
        )
        background, turns = trees.background[conversation], trees.ancestors(replies[-1])
        siblings = tuple(trees.segment[reply] for reply in replies[:-1])
        found.append(Context(conversation, id, background, turns, siblings))
    return found


@dataclass(frozen=True)
class Walk:
    """A walk, cut at the record's offsets."""

    conversation: int
    number: int
    background: str
    ids: list[str]
    turns: tuple[tuple[str, Verdict], ...]


def walks(connection: "DuckDBPyConnection", files: list[str], most: int, format: FormatName) -> Iterator[Walk]:
    markers = FORMATS[format]
    for number, walk, text, turns in connection.execute(WALKS, {"held_out": files, "most": most}).fetchall():
        background, *spelt = segments({"text": text, "turns": turns}, markers)
        verdicts = (turn["verdict"] for turn in turns)
        ids = [turn["utterance_id"] for turn in turns]
        yield Walk(number, walk, background, ids, tuple(zip(spelt, verdicts, strict=True)))


def turns(all_walks: list[Walk], numbers: QueryNumbers, verdict_first: bool) -> Turns:
    def rows() -> Iterator[tuple[Any, ...]]:
        for walk in all_walks:
            before: Verdict | None = None
            for place, (id, (segment, verdict)) in enumerate(zip(walk.ids, walk.turns, strict=True)):
                asked = Query(walk.background, walk.turns[:place], segment)
                query = numbers.text_of(asked, verdict if verdict_first else None)
                size = len(segment.encode())
                yield (walk.conversation, f"{walk.number}/{id}", query, size, verdict == "accepted", BEFORE[before])
                before = verdict

    return table(Turns, rows())


def improvements(
    all_walks: list[Walk], numbers: QueryNumbers, strangers: Strangers, verdict_first: bool
) -> Improvements:
    def rows() -> Iterator[tuple[Any, ...]]:
        for walk in all_walks:
            k = 0
            for place, (id, (segment, verdict)) in enumerate(zip(walk.ids, walk.turns, strict=True)):
                if verdict == "accepted" and k:
                    above, history = walk.turns[: place - k], walk.turns[place - k : place]
                    others = [strangers.of(text, walk.conversation) for text, _ in history]
                    contexts = [(*above, *history[:shown]) for shown in (0, *range(1, min(k, MOST_SHOWN + 1)), k)]
                    if strange := all(other is not None for other in others):
                        contexts.append((*above, *((other or "", "rejected") for other in others)))
                    taken_out, *left_in = (
                        numbers.text_of(Query(walk.background, turns, segment), verdict if verdict_first else None)
                        for turns in contexts
                    )
                    strange_query = left_in.pop() if strange else -1
                    for shown, query in zip((*range(1, len(left_in)), k), left_in, strict=True):
                        name = f"{walk.number}/{id}" + (f"/{shown}" if shown < k else "")
                        queries = (query, taken_out, left_in[-1], strange_query)
                        yield (walk.conversation, name, *queries, len(segment.encode()), k, shown)
                k = k + 1 if verdict == "rejected" else 0

    return table(Improvements, rows())


def read_cases(
    dataset: Path,
    utterances: Path,
    ranked: Path,
    format: FormatName,
    speakers: Speakers,
    settings: EvaluationSettings,
    spill: Path,
    engine: Engine | None = None,
    markers: str = "after",
    exclude_repeated_roots: bool = True,
    split: Split = "test",
    families: Collection[str] = FAMILIES,
    mentions: Speakers = "names",
) -> Cases:
    """Read the cases of a dataset's conversations of one split, spelt as in the dataset.

    `dataset`, `utterances` and `ranked` are the folders of those stages; `format`, `speakers` and `mentions` are the
    dataset's settings; DuckDB spills to `spill`. `markers` is their position in the model's texts. With `before`,
    segments come with their verdict. Unless `after`, there are no pairs and no steerings, which need a verdict after a
    turn. `exclude_repeated_roots` excludes the conversations whose root also occurs in the training split. Only the
    cases of `families`, of measures as in `measures.family`, are read.
    Raises PipelineError if `dataset` was not written from these utterances with these settings.
    """
    verdict_first, read_after = markers == "before", markers == "after"
    held_out = split_files(dataset, split)
    numbers = QueryNumbers()
    with (engine or Engine()).connect(spill) as connection:
        create_rendered(connection, utterances, format, speakers, mentions)
        files = parts(ranked, RANKED_REPLIES)
        near = settings.leakage == "near" and exclude_repeated_roots
        create_walked(connection, dataset, files, split, near)
        connection.execute(CHOSEN, {"exclude": exclude_repeated_roots})
        chosen = connection.execute("SELECT name, excluded FROM chosen ORDER BY number").fetchall()
        most = min(settings.max_conversations, sum(not excluded for _, excluded in chosen))
        connection.execute(SPEAKER_SCORES, {"ranked": files})
        connection.execute(REPLIES, {"ranked": files, "most": most})
        leakage = read_leakage(connection, files, exclude_repeated_roots, near)
        trees = Conversations(connection, most)
        all_walks = list(walks(connection, held_out, most, format))
        for walk in all_walks:
            if walk.background != trees.background.get(walk.conversation):
                raise PipelineError(
                    f"The dataset {dataset} was not written from these utterances with format {format},"
                    f" speakers {speakers} and mentions {mentions}: evaluate the model on the dataset that it was"
                    " trained on."
                )
        strangers = Strangers(trees.conversation, trees.segment)
        own_verdict: Verdict | None = "accepted" if verdict_first else None
        of_turns = {"verdict_calibration", "bits_per_byte", "perplexity"}.intersection(families)
        most_contrasts = settings.max_contrasts if "rejection_contrast" in families else 0
        sets = (
            pairs(connection, trees, numbers, settings)
            if read_after and "preference_accuracy" in families
            else table(Pairs, iter(())),
            steerings(connection, trees, numbers, settings)
            if read_after and "steering" in families
            else table(Steerings, iter(())),
            turns(all_walks if of_turns else [], numbers, verdict_first),
            improvements(all_walks if "in_context_improvement" in families else [], numbers, strangers, verdict_first),
            table(Contrasts, contrast_rows(connection, trees, numbers, strangers, most_contrasts, own_verdict)),
        )
        places = contexts(connection, trees, min(settings.contexts, most))
    ask_text = np.zeros(len(numbers.number_of), dtype=bool)
    ask_text[list(numbers.asked)] = True
    ids = [id for id, _ in chosen]
    verdicts = [verdict for _, verdict in numbers.number_of if verdict is not None] if verdict_first else None
    queries = [query for query, _ in numbers.number_of]
    return Cases(ids[:most], len(ids), queries, verdicts, ask_text, *sets, places, leakage)
