"""Cases about a dataset's own walks: turns, and accepted turns with and without the rejected siblings before them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adc_pipeline.evaluation.cases.case_sets import (
    BEFORE,
    MOST_SHOWN,
    Improvements,
    Turns,
    table,
)
from adc_pipeline.evaluation.cases.contrasts import Strangers
from adc_pipeline.evaluation.cases.conversations import QueryNumbers
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.training.texts.layout import segments
from adc_pipeline.walks.markers import FORMATS, FormatName, Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


WALKS = """
SELECT c.number, w.walk, w.text, w.turns
FROM (
    SELECT *, row_number() OVER (PARTITION BY conversation_id, walk ORDER BY file_row_number) AS place
    FROM read_parquet($held_out, hive_partitioning = false, file_row_number = true)
) AS w LEFT JOIN chosen AS c USING (conversation_id, place)
WHERE coalesce(c.number < $most, true) ORDER BY c.number, w.walk
"""


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
