"""Make a dataset of walks from ranked replies: Parquet files that `datasets.load_dataset` finds.

All kinds of walks share one set-based computation. In every sibling group the coins decide which reply is accepted and
which replies are shown (`kinds.py`). A walk is the path from the root along the accepted replies; its turns are the
shown replies of each group on the path, the accepted one last. Cost: 0.2 s per dataset for 13,720 utterances.

Rows are ordered by a hash of the conversation id, so that the bytes depend neither on the order of the source nor on
the number of threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import Counts, map_shards, shard_sql, shards_of, work_folder
from adc_pipeline.corpus.changes import BEFORE, NOW, Changes, changed_counts
from adc_pipeline.corpus.tables import CONVERSATIONS, create_utterances
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.coins import coin_sql, digest_sql
from adc_pipeline.walks.files import (
    JOINED,
    PUBLISHED,
    file_count,
    join_shards,
    nullable,
    numbered,
    split_file,
    split_files,
)
from adc_pipeline.walks.kinds import KINDS, WalkKind
from adc_pipeline.walks.rendering import create_views
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS, split_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHOICES = "CREATE TABLE choices AS {choices}"

PATH = """
CREATE TABLE path AS
WITH RECURSIVE path AS (
    SELECT choices.*, root_position AS root, 1 AS step
    FROM choices JOIN conversations ON conversations.root_position = choices.parent
    UNION ALL
    SELECT choices.*, path.root, path.step + 1
    FROM path JOIN choices ON choices.parent = path.next AND choices.walk = path.walk
)
SELECT walk, root, step, parent, accepted FROM path
"""

# `place` is the turn's order within its step.
TURNS = """
CREATE TABLE turns AS
SELECT path.root, path.walk, path.step, r.id, r.score, r.rank, r.siblings, r.position,
    CASE WHEN r.rank = path.accepted THEN 'accepted' ELSE 'rejected' END AS verdict, {order} AS place
FROM path JOIN ranked AS r ON r.parent_position = path.parent
{shown}
"""

# The rows of all walks, read in one scan. Roots and turns by themselves would each scan the texts of the corpus.
ROWS = """
CREATE TABLE shown_rows AS
SELECT position, id, namespace, conversation_id, speaker, text
FROM read_rows SEMI JOIN (
    SELECT position FROM turns UNION ALL SELECT root FROM path WHERE step = 1
) AS shown USING (position)
"""

# `ends` counts a walk's characters from the first turn up to and including the turn's marker; `head` counts those of
# the background. Turns are collected in any order and then sorted by `ends`: an ordered aggregate takes four times as
# long, and sorting the turns themselves would compare their texts.
WALKS = """
CREATE TABLE walks AS
WITH spelt AS (
    SELECT turns.* EXCLUDE (marker), u.speaker, length(u.text) AS characters, u.segment || marker AS segment,
        length(marker) AS marker, u.altered
    FROM (
        SELECT *, CASE verdict WHEN 'accepted' THEN getvariable('accepted')
                               ELSE getvariable('rejected') END AS marker
        FROM turns
    ) AS turns JOIN rendered_replies AS u USING (position)
), placed AS (
    SELECT *, sum(length(segment)) OVER (PARTITION BY root, walk ORDER BY step, place) AS ends FROM spelt
), joined AS (
    SELECT root, walk, count_if(altered) AS altered, list({{
        ends: ends, id: id, speaker: speaker, verdict: verdict, score: score, rank: rank, siblings: siblings,
        start: ends - marker - characters, stop: ends - marker, segment: segment}}) AS unsorted
    FROM placed GROUP BY root, walk
), sorted AS (
    SELECT *, list_select(unsorted, list_grade_up(list_transform(unsorted, lambda turn: turn.ends))) AS turns
    FROM joined
)
SELECT sorted.root, {split} AS split, md5(u.conversation_id) AS shuffle,
    u.segment || getvariable('background')
        || array_to_string(list_transform(turns, lambda turn: turn.segment), '') AS text,
    u.namespace, u.conversation_id, sorted.walk, u.source,
    list_transform(turns, lambda turn: {{
        utterance_id: turn.id, speaker: turn.speaker, verdict: turn.verdict, score: turn.score, rank: turn.rank,
        siblings: turn.siblings, start: turn.start::BIGINT + head, "end": turn.stop::BIGINT + head}}) AS turns,
    sorted.altered + u.altered::BIGINT AS altered
FROM (SELECT *, length(segment) + length(getvariable('background')) AS head FROM rendered_roots) AS u
JOIN sorted ON sorted.root = u.position
"""

# Walks with the text of an earlier walk of their conversation: where few replies have siblings, few walks differ.
REPEATS = """
CREATE TABLE repeats AS
SELECT root, walk FROM walks QUALIFY row_number() OVER (PARTITION BY root, md5(text) ORDER BY walk) > 1
"""
EXCLUDE = """
DELETE FROM {table} USING repeats WHERE {table}.root = repeats.root AND {table}.walk = repeats.walk
"""


COLUMNS = nullable(("text", "conversation_id", "walk", "source", "turns"), "walk >= 0")

WALK_ROWS = f"""
SELECT {COLUMNS} FROM (FROM walks WHERE split = $split ORDER BY shuffle, conversation_id, namespace, walk)
"""  # noqa: S608

# Of conversations that have changed, all rows are computed again.
CHANGED = """
FROM (
    FROM previous ANTI JOIN gone USING (conversation_id) UNION ALL BY NAME FROM now
)
"""
IN_ORDER = "ORDER BY md5(conversation_id), conversation_id, file_row_number"

COUNTS = """
SELECT (SELECT count(*) FROM walks) AS walks,
    (SELECT count(*) FROM walks WHERE split = 'train') AS "walks.train",
    (SELECT count(*) FROM walks WHERE split = 'validation') AS "walks.validation",
    (SELECT count(*) FROM walks WHERE split = 'test') AS "walks.test",
    (SELECT count(*) FROM repeats) AS "repeats.excluded",
    (SELECT count(DISTINCT root) FROM path) AS conversations,
    (SELECT count(DISTINCT root) FROM walks WHERE split = 'test') AS "conversations.test",
    (SELECT count(*) FROM turns) AS turns,
    (SELECT count(*) FROM turns WHERE verdict = 'accepted') AS "turns.accepted",
    (SELECT count(*) FROM turns WHERE verdict = 'rejected') AS "turns.rejected",
    (SELECT count(*) FROM conversations) - (SELECT count(DISTINCT root) FROM path) AS conversations_without_replies,
    (SELECT coalesce(sum(altered), 0)::BIGINT FROM walks) AS texts_with_markers_neutralised
"""

# Rows whose text an earlier row of the dataset has. A hash of 64 bits is enough to count them.
INCLUDED_REPEATS = """
SELECT count(*) - count(DISTINCT hash(text)) AS repeats
FROM read_parquet($files, hive_partitioning = false)
"""


@dataclass(frozen=True)
class Previous:
    """A dataset that was made before, and its counts."""

    folder: Path
    counts: Mapping[str, float]


def join_changed(
    connection: "DuckDBPyConnection",
    engine: Engine,
    what: str,
    previous: Sequence[Path],
    gone: Sequence[Path],
    now: Sequence[Path],
    file: Path,
) -> None:
    """Write what `join_shards` writes: the rows of the files `previous` without some conversations, and those of `now`.

    The conversations are those of the tables `gone`. All rows of a conversation lie in one file, in their order.
    """
    for view, paths in (("previous", previous), ("gone", gone), ("now", now)):
        connection.read_parquet(list(map(str, paths)), hive_partitioning=False, file_row_number=True).create_view(
            view, replace=True
        )
    files = file_count(connection.sql(CHANGED), [*previous, *now])
    for number in range(files):
        chosen = f"WHERE {shard_sql('conversation_id', files)} = {number}" if files > 1 else ""
        rows = f"SELECT {COLUMNS} FROM ({CHANGED} {chosen} {IN_ORDER})"  # noqa: S608
        engine.write(connection, f"joining {what}", rows, numbered(file, number, files), {}, PUBLISHED)


def write_walks(
    kind: str,
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: WalkSettings | None = None,
    engine: Engine | None = None,
    work: Path | None = None,
    previous: Previous | None = None,
) -> Counts:
    """Write the walks of a kind, by name, as `out/data/SPLIT-00000-of-00001.parquet`.

    Each row is a walk: `text`, `conversation_id`, `walk`, `source`, and `turns`, a list of {`utterance_id`,
    `speaker`, `verdict`, `score`, `rank`, `siblings`, `start`, `end`}, where `text[start:end]` is the
    turn's text and the marker follows at `end`. The folder `work` keeps finished shards until all are finished.
    `previous` is a dataset by the same settings and code, of the versions before `utterances` and `ranked`
    (`corpus.changes`): its walks of conversations that have not changed are reused.
    Return counts of walks, turns, conversations and repeated texts; the walks drawn are `walks` + `repeats.excluded`.
    """
    settings, engine = settings or WalkSettings(), engine or Engine()
    (out / "data").mkdir(parents=True, exist_ok=True)
    names = [shard.name for shard in shards_of(ranked)]
    changes = Changes.read(utterances) if previous else None

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        def walk(part: str) -> Counts:
            (folder / part).mkdir(parents=True, exist_ok=True)
            here = utterances / name / part, ranked / name / part, folder / part
            # The file of a single shard is linked.
            options = JOINED if changes or len(names) > 1 else PUBLISHED
            return walk_shard(KINDS[kind], *here, settings, engine, options)

        return changed_counts({}, walk(BEFORE), walk(NOW)) if changes else walk("")

    with (
        work_folder(work, out) as finished,
        engine.shared(finished / "spill") as engine,
        engine.connect(out / "spill") as connection,
    ):
        shards = finished / (f"since-{changes.previous}" if changes else "shards")
        counts = map_shards(names, make, finished, shards, engine)
        for split in SPLITS:
            if previous and changes:
                now = [finished / name / NOW / f"{split}.parquet" for name in names]
                files = list(map(Path, split_files(previous.folder, split)))
                gone = [utterances / name / BEFORE / CONVERSATIONS for name in names]
                join_changed(connection, engine, split, files, gone, now, out / split_file(split))
                continue
            parts = [finished / name / f"{split}.parquet" for name in names]
            join_shards(connection, engine, split, COLUMNS, parts, out / split_file(split))
        if previous and changes:
            counts = {name: int(previous.counts[name]) + number for name, number in counts.items()}
        rows = {"files": [file for split in SPLITS for file in split_files(out, split)]}
        counts["repeats.included"] = only_row(connection, INCLUDED_REPEATS, rows)["repeats"]
    return counts


def walk_shard(
    kind: WalkKind,
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: WalkSettings,
    engine: Engine,
    options: str,
) -> Counts:
    """Write the walks of one shard as `out/SPLIT.parquet`, in the order of the dataset; return counts."""
    with engine.connect(out / "spill") as connection:
        create_utterances(connection, utterances)
        connection.execute("SET VARIABLE seed = $1", [settings.seed])
        connection.read_parquet(str(ranked / RANKED_REPLIES), hive_partitioning=False).create_view("ranked")
        choices = kind.choices.format(coin=coin_sql(kind, "walk", kind.flipped))
        walks = {"walks": settings.walks_per_conversation}
        engine.run(connection, "flipping coins", CHOICES.format(choices=choices), walks)
        engine.run(connection, "walking down", PATH)
        names = "path.walk", f"r.{kind.flipped}"
        shown = kind.shown.format(coin=coin_sql(kind, *names), digest=digest_sql(kind, *names))
        engine.run(connection, "collecting turns", TURNS.format(order=kind.order, shown=shown))
        engine.run(connection, "reading texts", ROWS)
        create_views(connection, settings.format, settings.speakers, settings.mentions, "shown_rows")
        split = split_sql("u.conversation_id", settings.shares)
        engine.run(connection, "writing texts", WALKS.format(split=split))
        # One walk a conversation repeats none of its own; comparing the texts would cost a tenth of writing them.
        compared = settings.exclude_repeats and settings.walks_per_conversation > 1
        engine.run(connection, "finding repeats", REPEATS + ("" if compared else "LIMIT 0"))
        for table in ("walks", "turns"):
            connection.execute(EXCLUDE.format(table=table))
        for name in SPLITS:
            path = out / f"{name}.parquet"
            engine.write(connection, f"writing {name}", WALK_ROWS, path, {"split": name}, options)
        return only_row(connection, COUNTS)
