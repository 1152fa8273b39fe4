"""The stage `utterances`: read a raw corpus, place each row in its conversation, or set it aside with a reason.

Three steps: write the rows of the source, partitioned into shards (`corpus.sharding`); find rows with the same id, in
all shards; and build the tree of each shard (`corpus.tree`). A rerun reuses the steps and shards that an interrupted
run finished.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine, counts_by, only_row
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import (
    Counts,
    build_once,
    link_or_copy,
    make_shards,
    map_shards,
    parts,
    shard_names,
    shards_of,
    work_folder,
)
from adc_pipeline.corpus.changes import BEFORE, Changes, Difference, find_changes, moved, update_tree, write_changed_ids
from adc_pipeline.corpus.duplicates import EARLIER, IDENTICAL, write_candidates, write_duplicates
from adc_pipeline.corpus.kept_rows import record_trees
from adc_pipeline.corpus.keys import IS_UTTERANCE, Keys, read_keys
from adc_pipeline.corpus.parts import plain_bytes
from adc_pipeline.corpus.privacy.removals import Removals
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.sharding import COUNTED, no_utterances, shard_rows
from adc_pipeline.corpus.tables import READ, SET_ASIDE, create_read_rows
from adc_pipeline.corpus.titles import TITLES
from adc_pipeline.corpus.tree import write_tree

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Of plain JSON lines: some 4 million utterances, whose preferences fit into the default memory limit. Spilling them to
# disk costs more than shards do. A corpus that would have more than 16 such shards has larger ones, since each piece
# that is read becomes a file a shard.
BYTES_A_SHARD = 2 * 2**30
SMALL_SHARDS = 16
BYTES_A_LARGE_SHARD = 10 * 2**30
# On a cluster, where every node is to work to the end: shards for each task that can run at a time, of at least so many
# bytes.
SHARDS_A_TASK = 4
LEAST_BYTES = 256 * 2**20

# A shard sees its own rows only. A parent that is missing in one shard may be in another conversation of another shard.
ORPHANS = """
SELECT position, parent_key AS key FROM read_parquet($files, hive_partitioning = false)
WHERE reason IN ('missing_parent', 'root_outside') AND because_of_position IS NULL
"""
FOUND_ROWS = "rows.parquet"
FOUND = """
SELECT position FROM read_parquet($orphans, hive_partitioning = false)
SEMI JOIN (
    SELECT {key} AS key FROM read_rows WHERE conversation_id IS NOT NULL AND {is_utterance}
) AS here USING (key)
"""

STILL_EXCLUDED = """
INSERT INTO excluded BY NAME
SELECT id, conversation_id, reply_to, {moved} AS position, reason, because_of
FROM read_parquet($previous, hive_partitioning = false)
ANTI JOIN (FROM read_parquet($before, hive_partitioning = false)) AS before USING (position)
"""

SET_ASIDE_ROWS = """
SELECT id, conversation_id, reply_to, position,
    CASE WHEN reason IN ('missing_parent', 'root_outside')
            AND coalesce(because_of_position, position) IN (FROM in_other_shard)
        THEN 'other_conversation' ELSE reason END AS reason, because_of
FROM excluded ORDER BY position
"""

# Times that are counts of other units than seconds from 1970, as which they would all be of January 1970: years, days
# from 1970 or, as in spreadsheets, from 1899, and days of astronomers; each from 1970 to 2099.
OTHER_UNITS = {"years": (1970, 2100), "days": (10_957, 73_050), "Julian days": (2_440_587, 2_488_070)}
LEAST_TIME = "SELECT min(timestamp) FROM read_rows WHERE timestamp > 0"
TIMES = """
SELECT namespace, min(timestamp), max(timestamp) FROM read_rows WHERE timestamp > 0 GROUP BY ALL ORDER BY namespace
"""

# Rows of these reasons are no fault of the corpus, so they do not count towards the setting `max_set_aside`: copies,
# earlier recordings, what is no utterance, and replies whose root lies outside an excerpt.
HARMLESS = (IDENTICAL, EARLIER, "not_an_utterance", "root_outside")
# Where less than this share of them takes part, replies whose root lies outside are no edge of an excerpt: the roots
# are missing, or read as something else.
LEAST_OF_EXCERPT = 0.1
CORRECTIONS = {
    "root_outside": "name the file with the roots of the conversations (the posts), too, ",
    "no_score": "give each reply a whole number as its score (the setting columns maps the names of a table), ",
    "missing_parent": "check what names the parents (for a table, reply_to in the setting columns), ",
    "second_root": "name a conversation for each root (for a table, conversation_id in the setting columns), ",
    "duplicate_id": "give each utterance an id that no other of the source has, such as thread and number (name files"
    " that number their own one by one, separated by commas; of two recordings of the same utterances, name the later),"
    " ",
    "no_id": "give each utterance an id (1.23E+15, as Excel shortens long numbers, is none), ",
    "no_conversation": "name the conversation of each reply (for a table, conversation_id in the setting columns), ",
    "malformed": "correct the lines that are no records, or save the file as UTF-8, ",
}


def write_utterances(
    corpus: Path,
    out: Path,
    settings: UtteranceSettings | None = None,
    engine: Engine | None = None,
    source: CorpusSettings | None = None,
    work: Path | None = None,
    removals: Removals | None = None,
    previous: Path | None = None,
    months: Sequence[Path] = (),
) -> Counts:
    """Read the raw corpus `corpus` and write the tables of `corpus.tables` into the folder `out`.

    `corpus` is a folder that `corpus.source.fetch` wrote, or one ConvoKit folder, dump or table; `source` overrides
    the detected format and maps columns. `work` keeps finished steps for a rerun. What `removals` lists is left out. Of
    `previous`, an earlier result by the same code, and of `months` (`corpus.months`), the rows of unchanged source
    files are reused. Return the counts: `read` = `taking_part` + `set_aside`, the latter also by reason. Raise
    PipelineError for a corpus that is truncated or empty, and where a larger share than `max_set_aside` is set aside.
    """
    settings, engine, source = settings or UtteranceSettings(), engine or Engine(), source or CorpusSettings()
    settings = with_shards(settings, corpus, engine, previous or next(iter(months), None))
    out.mkdir(parents=True, exist_ok=True)
    names = shard_names(settings.shards)
    with work_folder(work, out) as finished, engine.shared(finished / "spill") as engine:
        read = finished / "read"
        rows = build_once(
            finished / "rows",
            lambda folder: shard_rows(
                corpus, folder, source, settings, engine, removals, read, [previous, *months] if previous else months
            ),
        )
        shutil.rmtree(read, ignore_errors=True)
        with engine.connect(finished / "keys.spill") as connection:
            create_read_rows(connection, rows)
            refuse_other_units(connection)
            keys = read_keys(connection)

        difference = find_changes(previous, rows, keys, settings.adopt_roots)
        trees, ids, duplicates = finished / "trees", finished / "changed.parquet", finished / "duplicates.parquet"
        candidates = None
        if difference:
            trees, candidates = finished / f"trees-{difference.previous.name}", finished / "candidates.parquet"
            write_changed_ids(rows, ids, difference, keys, engine)
            write_candidates(rows, candidates, keys, engine, difference, ids)
        write_duplicates(rows, duplicates, finished / "ids", keys, engine, candidates)

        def make(name: str, folder: Path, engine: Engine) -> Counts:
            others = keys, duplicates, rows / TITLES, folder, settings.adopt_roots, engine
            if difference:
                return update_tree(rows, name, difference, ids, *others)
            return write_tree(rows / name, name, *others)

        counts = map_shards(names, make, out, trees, engine)
        for name in names:
            for path in (rows / name).glob(READ):
                link_or_copy(path, out / name / path.name)
        record_trees(rows, keys, settings.adopt_roots, out)
        link_or_copy(rows / TITLES, out / TITLES)
        if difference:
            Changes(difference.previous.name, difference.runs).record(out)
        counts |= read_record(rows / COUNTED)
        counts |= write_set_aside(rows, out, keys, finished, engine, difference)
    refuse_too_many_set_aside(counts, settings.max_set_aside)
    return counts


def with_shards(settings: UtteranceSettings, corpus: Path, engine: Engine, previous: Path | None) -> UtteranceSettings:
    """Return settings in which a number of shards stands for 0; `previous` is a folder of rows by an earlier number."""
    if settings.shards:
        return settings
    tasks = 0
    if engine.executor == "ray":
        from adc_pipeline.core.cluster.tasks import tasks_at_once

        tasks = tasks_at_once(engine)
    return replace(
        settings, shards=automatic_shards(plain_bytes(corpus), tasks, len(shards_of(previous)) if previous else 0)
    )


def automatic_shards(size: int, tasks: int = 0, before: int = 0) -> int:
    """Return a number of shards for a corpus of `size` bytes: a power of two, so that it seldom changes.

    `tasks` can run at a time on a cluster. The number that was `before` stays if it serves, since all files are read
    again for another one.
    """
    alone = max(min(size / BYTES_A_SHARD, SMALL_SHARDS), size / BYTES_A_LARGE_SHARD)
    wanted = max(alone, min(SHARDS_A_TASK * tasks, size / LEAST_BYTES), 1)
    found: int = 2 ** math.ceil(math.log2(wanted))
    return before if found <= before <= 2 * size / LEAST_BYTES else found


def refuse_other_units(connection: "DuckDBPyConnection") -> None:
    """Raise PipelineError if all times of a source are what years or days of our time are as numbers.

    Days with a fraction lose their time of day, by which siblings with one score are ordered.
    """
    ((least,),) = connection.execute(LEAST_TIME).fetchall()
    if least is None or least > max(last for _, last in OTHER_UNITS.values()):
        return
    for _, first, last in connection.execute(TIMES).fetchall():
        for unit, (begin, end) in OTHER_UNITS.items():
            if begin <= first and last <= end:
                raise PipelineError(
                    f"All times of a source that the setting corpus names are numbers from {first} to {last}, which as"
                    f" seconds since 1970 are of January 1970 and are probably {unit}: write them as seconds or as"
                    " dates such as 2020-09-13T18:33:32Z, or leave the column out."
                )


def write_set_aside(
    rows: Path, out: Path, keys: Keys, finished: Path, engine: Engine, difference: Difference | None = None
) -> Counts:
    """Merge the `set_aside.parquet` of all shards into one; return the counts by reason, and of unreadable times.

    Tasks look for the parents of replies without one, each in the rows of a shard. With a `difference`, the shards have
    those of touched conversations only, and the others are those of the previous version.
    """
    orphans, names = finished / "orphans.parquet", [shard.name for shard in shards_of(out)]

    def find_parents(name: str, folder: Path, engine: Engine) -> Counts:
        with engine.connect(folder / "spill") as connection:
            create_read_rows(connection, rows / name)
            found = FOUND.format(key=keys.key, is_utterance=IS_UTTERANCE)
            engine.write(connection, "finding parents", found, folder / FOUND_ROWS, {"orphans": str(orphans)})
        return {}

    files = parts(out, SET_ASIDE)
    with engine.connect(out / "spill") as connection:
        connection.execute("CREATE TABLE in_other_shard (position BIGINT)")
        engine.write(connection, "collecting orphans", ORPHANS, orphans, {"files": files})
        if (len(files) > 1 or difference) and row_count([str(orphans)]):
            make_shards(names, find_parents, finished / "parents", engine)
            connection.execute(
                "INSERT INTO in_other_shard SELECT DISTINCT position FROM"
                " read_parquet($files, hive_partitioning = false)",
                {"files": parts(finished / "parents", FOUND_ROWS)},
            )
        connection.execute(
            "CREATE TABLE excluded AS FROM read_parquet($files, hive_partitioning = false)", {"files": files}
        )
        if difference:
            values = {"previous": str(difference.previous / SET_ASIDE), "before": parts(out, f"{BEFORE}/{READ}")}
            engine.run(connection, "", STILL_EXCLUDED.format(moved=moved(difference.runs, "position")), values)
        create_read_rows(connection, rows)
        engine.write(connection, "writing rows set aside", SET_ASIDE_ROWS, out / SET_ASIDE)
        for file in files:
            Path(file).unlink()
        reasons = counts_by(
            connection,
            "SELECT reason, count(*) FROM read_parquet($path, hive_partitioning = false) GROUP BY ALL",
            {"path": str(out / SET_ASIDE)},
        )
        unreadable = only_row(connection, "SELECT count(*) AS times_unreadable FROM read_rows WHERE time_unreadable")
    return {f"set_aside.{reason}": number for reason, number in reasons.items()} | unreadable


def refuse_too_many_set_aside(counts: Mapping[str, int], most: float) -> None:
    if not counts["read"]:
        raise no_utterances()
    harmless = {reason: counts.get(f"set_aside.{reason}", 0) for reason in HARMLESS}
    if counts["taking_part"] < LEAST_OF_EXCERPT * harmless["root_outside"]:
        harmless["root_outside"] = 0
    faulty = counts["set_aside"] - sum(harmless.values())
    if faulty > most * counts["read"]:
        reasons = ", ".join(
            f"{number} {name.removeprefix('set_aside.')}"
            for name, number in counts.items()
            if name.startswith("set_aside.") and not harmless.get(name.removeprefix("set_aside."))
        )
        raise PipelineError(
            f"{faulty} of {counts['read']} utterances would be set aside ({reasons}), more than the setting"
            f" max_set_aside = {most:g} allows: {correction(counts, harmless)}or raise the setting."
        )


def correction(counts: Mapping[str, float], harmless: Mapping[str, int]) -> str:
    """Return what to do about rows that are set aside, by the commonest of their reasons, as the begin of a clause."""
    found = {name: counts.get(f"set_aside.{name}", 0) for name in CORRECTIONS if not harmless.get(name)}
    commonest = max(found, key=lambda name: found[name], default="")
    return CORRECTIONS[commonest] if found.get(commonest, 0) > counts["set_aside"] / 2 else "correct the corpus "
