"""Read every part of a raw corpus once, in order, and write its rows as Parquet, partitioned into shards.

All text passes through this module once. DuckDB parses on every core and keeps the order of the source, so the number
of a row is its position. Each source file, or part of a large plain one, is a task, which reads its rows and writes
them to the shard each belongs to in one pass (`readings` says what, `pieces` how).
"""

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import COUNTS, Counts, link_or_copy, make_shards, shard_names
from adc_pipeline.corpus import kept_rows
from adc_pipeline.corpus.missing_texts import create_text_macros
from adc_pipeline.corpus.namespaces import join_sites, part_namespaces
from adc_pipeline.corpus.opening.recorded_files import unchanged_while_read
from adc_pipeline.corpus.part_rows import read_parts
from adc_pipeline.corpus.parts import Part, list_parts
from adc_pipeline.corpus.pieces import PARQUET_OPTIONS, PieceWriter, is_no_fault_of_a_file
from adc_pipeline.corpus.privacy.personal_data import replace_personal_data
from adc_pipeline.corpus.privacy.removals import Removals, remove_rows
from adc_pipeline.corpus.readers.carried import carried
from adc_pipeline.corpus.readers.values import create_macros, stands_for_nothing
from adc_pipeline.corpus.readings import Reading, cut, cut_out, whole_readings
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.split_files import fill_empty_shards
from adc_pipeline.corpus.tables import FROM, READ
from adc_pipeline.corpus.titles import TITLES, write_entries, write_titles

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The records of all parts, the entries of ConvoKit's titles that could not be read, and what was removed or replaced.
COUNTED = "counted.json"

# One level only: &amp; is replaced last, so that &amp;lt; becomes &lt; and no more.
DECODE_ENTITIES = """
CREATE TEMP MACRO decode_entities(content) AS
CASE WHEN contains(content, '&') THEN replace(replace(replace(replace(replace(content,
    '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&#39;', ''''), '&amp;', '&') ELSE content END
"""
KEEP_ENTITIES = "CREATE TEMP MACRO decode_entities(content) AS content"


# What stands for no parent may also be an id (`corpus.keys`).
FIND_ROOT = """
SELECT 1 FROM ({rows}) WHERE id IS NOT NULL AND (coalesce(reply_to, id) = id
    OR {nothing} AND reply_to IS DISTINCT FROM conversation_id)
LIMIT 1
"""


def shard_rows(
    corpus: Path,
    out: Path,
    source: CorpusSettings,
    settings: UtteranceSettings,
    engine: Engine,
    removals: Removals | None = None,
    work: Path | None = None,
    previous: Sequence[Path] = (),
    chosen: Callable[[Part], bool] | None = None,
) -> None:
    """Write every row of `corpus` to `out/SHARD/utterances-NNNNN….parquet`, and titles and counts to `out`.

    Each source file, or a part of one, is a task, which `core.shards` maps; `work` keeps what finished tasks have
    written, and `previous` are folders by this function of which the rows of unchanged files are reused.
    What `removals` lists is left out. Only tasks with a part that is `chosen` are done.
    """
    names = shard_names(settings.shards)
    parts = list_parts(corpus, source)
    with unchanged_while_read(corpus), engine.connect(out / "spill") as connection:
        prepare(connection, settings)

        def has_roots(part: Part) -> bool:
            return finds_root(part, source, connection, out / "scratch", engine)

        namespaces = join_sites(parts, part_namespaces(parts, source.columns), has_roots)
        readings = list(whole_readings(parts, namespaces, bool(carried(source.columns))))
        # The rows of a single shard have no positions, so that they are those of whole files. Several shards have the
        # same files on one machine as on a cluster, where the parts of a large file are read by several nodes.
        if len(names) > 1:
            readings = list(cut(readings))
        if chosen:
            readings = [reading for reading in readings if any(map(chosen, reading.parts))]
        kept = keeps_rows(settings, removals)
        keys = kept_rows.keys(readings, corpus, source, settings) if kept else [""] * len(readings)
        finished = work or out / ".work"
        if restored := sum(kept_rows.restore(keys, each, len(names), finished) for each in previous):
            engine.report(f"{restored} of {len(readings)} files have not changed: their rows are reused")
        # A connection with its macros costs as much as some thousand rows, so tasks of this process share one.
        shared = connection if engine.executor == "local" else None
        make = partial(read_task, readings, source, settings, shared)
        entries = out / "entries.parquet"
        with ThreadPoolExecutor(1) as beside:
            unreadable = beside.submit(write_entries, parts, namespaces, entries)
            make_shards(shard_names(len(readings)), make, finished, engine, "file")
        counts = link_rows(keys, out, names, finished) | {"titles_unreadable": unreadable.result()}
        write_titles(entries, out / TITLES, len(names), connection, engine)
        if removals:
            counts |= remove_rows(out, out / TITLES, removals, connection, engine, PARQUET_OPTIONS)
        if settings.replace_personal_data:
            counts |= replace_personal_data(sorted(out.glob(f"*/{READ}")), out / TITLES, engine.report)
    (out / COUNTED).write_text(json.dumps(counts, allow_nan=False) + "\n")


def keeps_rows(settings: UtteranceSettings, removals: Removals | None) -> bool:
    """Return whether rows can be reused: rewritten ones are not those of the source files."""
    return not removals and not settings.replace_personal_data


def prepare(connection: "DuckDBPyConnection", settings: UtteranceSettings) -> None:
    """Create the macros that readers use."""
    create_macros(connection)
    create_text_macros(connection)
    connection.execute(DECODE_ENTITIES if settings.decode_entities else KEEP_ENTITIES)


def link_rows(keys: Sequence[str], out: Path, names: Sequence[str], work: Path) -> Counts:
    """Link the rows of all tasks, one a key, into `out/SHARD`, in the order of the source; return summed counts."""
    tasks = shard_names(len(keys))
    for name in names:
        (out / name).mkdir()
    number = first = 0
    pieces: list[list[tuple[int, int]]] = []
    for task in tasks:
        pieces.append([])
        for piece in sorted((work / task).glob("?????-*")):
            # Rows of one shard have no positions, which are their numbers.
            place = f"{FROM}{first:012}" if len(names) > 1 else ""
            for name in names:
                if (rows := piece / f"{name}.parquet").exists():
                    link_or_copy(rows, out / name / f"utterances-{number:05}{place}.parquet")
            pieces[-1].append((number, int(piece.name.partition("-")[2])))
            number += 1
            first += pieces[-1][-1][1]
    if not first:
        raise no_utterances()
    fill_empty_shards(out, names)
    records = [read_record(work / task / COUNTS, remedy=f"remove {work}")["records"] for task in tasks]
    kept_rows.record(keys, pieces, records, out)
    return {"records": sum(records)}


def read_task(
    readings: Sequence[Reading],
    source: CorpusSettings,
    settings: UtteranceSettings,
    shared: "DuckDBPyConnection | None",
    name: str,
    folder: Path,
    engine: Engine,
) -> Counts:
    """Write the rows of one task to `folder/PIECE-ROWS/SHARD.parquet`; return how many records were read.

    Positions are those in the piece. A shard without rows has no file. `shared` is a prepared connection; without one,
    as on a cluster, the task opens its own.
    """
    reading, names = readings[int(name.partition("-")[0])], shard_names(settings.shards)
    scratch = engine.scratch or folder
    with ExitStack() as stack:
        connection = shared or stack.enter_context(engine.connect(scratch / "spill"))
        if shared is None:
            prepare(connection, settings)
        parts = stack.enter_context(cut_out(reading, scratch / "cut"))
        writer = PieceWriter(source, names, connection, scratch / "piece", engine)
        for number, _ in enumerate(writer.write(parts, reading.namespace)):
            shutil.move(writer.piece, folder / f"{number:05}-{row_count(writer.files())}")
    shutil.rmtree(scratch / "scratch", ignore_errors=True)
    return {"records": writer.records}


def finds_root(
    part: Part, source: CorpusSettings, connection: "DuckDBPyConnection", scratch: Path, engine: Engine
) -> bool:
    """Return whether a part holds an utterance that answers nothing; reads a table up to its first root."""
    import duckdb

    if part.what.layout is not None or part.what.kind != "table":
        return part.what.layout is None or part.what.has_roots
    nothing = stands_for_nothing("reply_to")
    try:
        with closing(read_parts([part], source.columns, connection, scratch, engine.report, repair=True)) as pieces:
            return any(
                connection.execute(FIND_ROOT.format(rows=rows.sql, nothing=nothing), rows.parameters).fetchall()
                for rows in pieces
            )
    except duckdb.Error as error:
        if is_no_fault_of_a_file(error):
            raise
        return True


def no_utterances() -> PipelineError:
    return PipelineError("The corpus holds no utterances: check the setting corpus (or ADC_CORPUS).")
