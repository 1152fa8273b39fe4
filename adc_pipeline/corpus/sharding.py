"""Read every part of a raw corpus once, in order, and write its rows as Parquet, partitioned into shards.

All text passes through this module once. DuckDB parses on every core and keeps the order of the source, so the number
of a row is its position. Each source file, or a part of a large plain one, is a task, which reads its rows and writes
them to the shard each belongs to in one pass.

What each part holds is counted a second time by other means than DuckDB, while DuckDB reads it.
"""

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import COUNTS, Counts, link_or_copy, make_shards, shard_names, shard_sql
from adc_pipeline.corpus import fields, kept_rows
from adc_pipeline.corpus.missing_texts import create_text_macros
from adc_pipeline.corpus.namespaces import join_sites, part_namespaces
from adc_pipeline.corpus.packings import packing
from adc_pipeline.corpus.parts import Part, list_parts
from adc_pipeline.corpus.personal_data import replace_personal_data
from adc_pipeline.corpus.readers import convokit, dumps, lines, tables
from adc_pipeline.corpus.readers.arrow import read_schema
from adc_pipeline.corpus.readers.carried import carried, quoted
from adc_pipeline.corpus.readers.delimited import read_dialect
from adc_pipeline.corpus.readers.rows import COLUMNS, Rows
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline.corpus.recorded_files import UTTERANCES, unchanged_while_read
from adc_pipeline.corpus.removals import Removals, remove_rows
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.tables import FROM, READ

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from duckdb import DuckDBPyConnection

TITLES, COUNTED = "titles.parquet", "counted.json"

# One level only: &amp; is replaced last, so that &amp;lt; becomes &lt; and no more.
DECODE_ENTITIES = """
CREATE TEMP MACRO decode_entities(content) AS
CASE WHEN contains(content, '&') THEN replace(replace(replace(replace(replace(content,
    '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&#39;', ''''), '&amp;', '&') ELSE content END
"""
KEEP_ENTITIES = "CREATE TEMP MACRO decode_entities(content) AS content"

# What names itself as its parent has none.
FINISHED = {
    "reply_to": "CASE WHEN reply_to = id AND kind IS NOT DISTINCT FROM parent_kind THEN NULL ELSE reply_to END",
    "speaker": "coalesce(speaker, '')",
    "text": "coalesce(decode_entities(text), '')",
    "stickied": "coalesce(stickied, false)",
    "score_hidden": "coalesce(score_hidden, false)",
    "title": "decode_entities(title)",
    "source": "coalesce(source, $source)",
}
SELECTED = ", ".join(
    [*(f"{FINISHED[name]} AS {name}" if name in FINISHED else name for name in COLUMNS), "$namespace AS namespace"]
)

# Texts are not compressed: compression would add a quarter to the time of reading them, here and in each later stage.
# The Parquet files take two fifths of the space of the JSON.
PARQUET_OPTIONS = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1000"
FINISHED_ROWS = "SELECT *, missing_text(text) AS missing_text FROM (SELECT {selected} FROM ({rows}))"

# 0 and -1 may stand for no parent (`corpus.keys`).
FIND_ROOT = """
SELECT 1 FROM ({rows}) WHERE id IS NOT NULL AND (coalesce(reply_to, id) = id
    OR (reply_to = '0' OR reply_to = '-1') AND reply_to IS DISTINCT FROM conversation_id)
LIMIT 1
"""

# A row without a conversation goes to the first shard; it is set aside later.
SHARD = "coalesce({shard}, 0) AS shard"
# Columns with few values, which take a dictionary.
FEW_VALUES = ["kind", "parent_kind", "source", "namespace", "distinguished", "missing_text", "title"]
ROW_GROUP = 122_880
# Rows that wait for a file at most; they take about 300 MB.
MOST_WAITING = 8 * ROW_GROUP

# The entries of all `conversations.json`, in order.
ENTRY_COLUMNS = ("namespace", "conversation_id", "title", "source")
# Several corpora of one namespace may name a conversation, or one corpus may name it twice: the last entry wins.
TITLE_ROWS = """
SELECT namespace, text_id(conversation_id) AS conversation_id,
    decode_entities(arg_max(title, file_row_number)) AS title, arg_max(source, file_row_number) AS source
FROM read_parquet($entries, file_row_number = true, hive_partitioning = false) GROUP BY ALL
"""
BATCH = 100_000

# Small files are read together, this many at most.
SMALL_FILE, MOST_FILES = 1 << 20, 2000
# DuckDB's name of the column with a row's file.
FILE_NAME = "filename"


@dataclass
class Counted:
    """What was counted while the parts were read, apart from the rows.

    `records` are the records of all parts, by other means than DuckDB; `titles_unreadable` the entries of ConvoKit's
    `conversations.json` that are no JSON objects.
    """

    records: int = 0
    titles_unreadable: int = 0


@dataclass(frozen=True)
class Reading:
    """What one task reads: parts that one query can read together, or bytes of the only part's plain file."""

    parts: tuple[Part, ...]
    namespace: str
    begin: int = 0
    end: int = 0


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

    Each source file, or a part of a large plain one, is a task, which `core.shards` maps; `work` keeps what finished
    tasks have written, and `previous` are folders by this function of which the rows of unchanged files are reused.
    What `removals` lists is left out. Only tasks with a part that is `chosen` are done.
    """
    names = shard_names(settings.shards)
    parts = list_parts(corpus, source)
    with unchanged_while_read(corpus), engine.connect(out / "spill") as connection:
        prepare(connection, settings)

        def has_roots(part: Part) -> bool:
            return finds_root(part, source, connection, out / "scratch", engine)

        namespaces = join_sites(parts, part_namespaces(parts, source.columns), has_roots)
        readings = list(cut(batches(parts, namespaces, bool(carried(source.columns))), len(names)))
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
        make_shards(shard_names(len(readings)), make, finished, engine, "file")
        counts = link_rows(keys, out, names, finished)
        counted = Counted(counts["records"])
        write_titles(parts, namespaces, out / TITLES, counted, connection, engine)
        counts = remove_rows(out, out / TITLES, removals, connection, engine, PARQUET_OPTIONS) if removals else {}
        if settings.replace_personal_data:
            counts |= replace_personal_data(sorted(out.glob(f"*/{READ}")), out / TITLES, engine.report)
    (out / COUNTED).write_text(json.dumps(asdict(counted) | counts, allow_nan=False) + "\n")


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
    if not number:
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
    counted, piece = Counted(), scratch / "piece"
    with ExitStack() as stack:
        connection = shared or stack.enter_context(engine.connect(scratch / "spill"))
        if shared is None:
            prepare(connection, settings)
        parts = stack.enter_context(cut_out(reading, scratch / "cut"))
        writer = PieceWriter(source, names, connection, piece, counted, engine)
        for number, _ in enumerate(writer.write(parts, reading.namespace)):
            shutil.move(piece, folder / f"{number:05}-{row_count(writer.files())}")
    shutil.rmtree(scratch / "scratch", ignore_errors=True)
    return {"records": counted.records}


def finds_root(
    part: Part, source: CorpusSettings, connection: "DuckDBPyConnection", scratch: Path, engine: Engine
) -> bool:
    """Return whether a part holds an utterance that answers nothing; reads a table up to its first root."""
    import duckdb

    if part.what.layout is not None or part.what.kind != "table":
        return part.what.layout is None or part.what.has_roots
    try:
        with closing(read_parts([part], source, connection, scratch, engine, repair=True)) as pieces:
            return any(
                connection.execute(FIND_ROOT.format(rows=rows.sql), rows.parameters).fetchall() for rows in pieces
            )
    except duckdb.Error as error:
        if is_no_fault_of_a_file(error):
            raise
        return True


def batches(
    parts: Sequence[Part], namespaces: Sequence[str], carries: bool = False
) -> Iterator[tuple[list[Part], str]]:
    """Yield the parts in order, those together that one query can read: a query costs as much as 10,000 rows.

    One that `carries` further columns reads one part.
    """
    for (_, namespace), group in groupby(
        zip(parts, namespaces, strict=True),
        lambda each: (each[0].path if carries else batch_key(each[0]), each[1]),
    ):
        batch = [part for part, _ in group]
        for begin in range(0, len(batch), MOST_FILES):
            yield batch[begin : begin + MOST_FILES], namespace


def batch_key(part: Part) -> object:
    """Return what small files that can be read together have in common; its own path for any other part."""
    if part.what.kind == "convokit":
        utterances = part.path / UTTERANCES
        return "convokit" if utterances.stat().st_size <= SMALL_FILE else part.path
    if part.what.container not in ("lines", "csv", "parquet", "arrow") or part.path.stat().st_size > SMALL_FILE:
        return part.path
    if part.what.container in ("parquet", "arrow"):
        schema = read_schema(part.path, part.what.container)
        names = list(map(str.lower, schema.names))
        # The metadata of a schema may differ from file to file.
        return part.path if FILE_NAME in names else (part.what, str(schema.remove_metadata()))
    # A packed one may hold a thousand times as much.
    if packing(part.path) != "none" and part.path.stat().st_size > SMALL_FILE / 16:
        return part.path
    if part.what.container == "lines":
        return "dump" if part.what.kind in ("submissions", "comments") else part.what
    if part.what.container == "csv" and part.what.kind == "table":
        dialect = read_dialect(part.path)
        if FILE_NAME not in map(str.lower, dialect.names):
            return dialect
    return part.path


@dataclass
class PieceWriter:
    """Writes the rows of parts to the folder `piece`, one file a shard; the caller moves it before the next piece."""

    source: CorpusSettings
    names: Sequence[str]
    connection: "DuckDBPyConnection"
    piece: Path
    counted: Counted
    engine: Engine

    def write(self, batch: Sequence[Part], namespace: str) -> Iterator[None]:
        """Write one piece of some parts after the other: of all together, or of either half if DuckDB cannot."""
        import duckdb
        import pyarrow as pa

        if len(batch) > 1:
            began = False
            try:
                for _ in self._write_rows(batch, namespace):
                    began = True
                    yield
                return
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if began or is_no_fault_of_a_file(error):
                    raise
            half = len(batch) // 2
            for some in (batch[:half], batch[half:]):
                yield from self.write(some, namespace)
            return
        (part,) = batch
        yield from self._write_single(part, namespace)

    def _write_single(self, part: Part, namespace: str) -> Iterator[None]:
        """Write one piece of a part after the other; a part that DuckDB cannot read is read again in a slower way."""
        import duckdb
        import pyarrow as pa

        for repair in (False, True):
            written = 0
            try:
                for _ in self._write_rows([part], namespace, repair):
                    written += 1
                    yield
                return
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if is_no_fault_of_a_file(error):
                    raise
                # Only a file that DuckDB reads in place can be repaired, and nothing of it has been written yet.
                if repair or written:
                    raise PipelineError(
                        f"{part.path.resolve()}, which the setting corpus names, could not be read: it is damaged, or"
                        " not of the format that it seems to have. Fetch it again, or correct the setting format."
                    ) from error
                self.engine.report(f"{part.name} has a row that DuckDB cannot read: reading it again in a slower way")

    def _write_rows(self, batch: Sequence[Part], namespace: str, repair: bool = False) -> Iterator[None]:
        shards = len(self.names)
        selected = ", ".join([SELECTED, *quoted(carried(self.source.columns))])
        sharded = f"{selected}, {SHARD.format(shard=shard_sql('conversation_id', shards))}"
        selected = selected if shards == 1 else sharded
        part, scratch = batch[0], self.piece.with_name("scratch")
        name = convokit.corpus_name(part.path, part.name) if part.what.kind == "convokit" else part.name
        for rows in read_parts(batch, self.source, self.connection, scratch, self.engine, repair):
            query = FINISHED_ROWS.format(selected=selected, rows=rows.sql)
            quick = FINISHED_ROWS.format(selected=selected, rows=rows.quick) if rows.quick else ""
            parameters = {**rows.parameters, "source": name, "namespace": namespace}
            with counting(rows) as lines_read:
                if not (quick and self._is_written(f"reading {name}", quick, parameters)):
                    self._write_query(f"reading {name}", query, parameters)
            if rows.lines and isinstance(parameters.get("lines"), str) and has_unreadable_rows(self.files()):
                self._read_without_halves(rows, query, parameters)
            self.counted.records += records(rows, lines_read, row_count(self.files()))
            yield

    def files(self) -> list[str]:
        """Return the files of the piece."""
        return sorted(map(str, self.piece.iterdir()))

    def _is_written(self, doing: str, query: str, parameters: Mapping[str, object]) -> bool:
        """Try a query that raises an error where a value is not written as usual; return whether it did not."""
        import duckdb
        import pyarrow as pa

        try:
            self._write_query(doing, query, parameters)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if is_no_fault_of_a_file(error):
                raise
            return False
        return True

    def _write_query(self, doing: str, query: str, parameters: Mapping[str, object]) -> None:
        shutil.rmtree(self.piece, ignore_errors=True)
        self.piece.mkdir()
        if len(self.names) == 1:
            path = self.piece / f"{self.names[0]}.parquet"
            self.engine.write(self.connection, doing, query, path, parameters, PARQUET_OPTIONS)
            return
        with self.engine.batches(self.connection, doing, query, ROW_GROUP, parameters) as batches:
            split = SplitFiles(self.piece, self.names, batches.schema)
            with closing(split):
                for batch in batches:
                    split.write(batch)

    def _read_without_halves(self, rows: Rows, query: str, parameters: dict[str, object]) -> None:
        """Read the plain file of a piece again if a half of a surrogate pair is why some lines could not be read."""
        with TemporaryDirectory(dir=self.piece.parent) as folder, rows.lines[0].open("rb") as file:
            copy, found = Path(folder) / "lines.jsonl", False
            with copy.open("wb") as out:
                for line in file:
                    halves = lines.has_halves(line)
                    found = found or halves
                    out.writelines(lines.without_halves(iter([line])) if halves else [line])
            if found:
                again = parameters | {"lines": str(copy)}
                self._write_query("reading halves of signs", query, again)


def has_unreadable_rows(files: Sequence[str]) -> bool:
    """Return whether files may have rows from which nothing could be read; asks Parquet's statistics only."""
    import pyarrow.parquet as pq

    for metadata in map(pq.read_metadata, files):
        column = metadata.schema.names.index("conversation_id")
        found = [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
        if any(statistics is None or statistics.null_count for statistics in found):
            return True
    return False


def is_no_fault_of_a_file(error: Exception) -> bool:
    """Return whether an error is one of the machine: a full disk, too little memory, a refusal of the system."""
    import duckdb

    # Arrow raises OSError, without a number, for damaged data.
    refused = isinstance(error, OSError) and error.errno is not None
    return refused or is_disk_full(error) or isinstance(error, duckdb.OutOfMemoryException)


def read_parts(
    batch: Sequence[Part],
    source: CorpusSettings,
    connection: "DuckDBPyConnection",
    scratch: Path,
    engine: Engine,
    repair: bool,
) -> Generator[Rows, None, None]:
    """Yield the rows of some parts; with `repair`, in a slower way that accepts rows which DuckDB cannot read."""
    part = batch[0]
    if len(batch) > 1:
        paths, names = [part.path for part in batch], [part.name for part in batch]
        if part.what.kind == "convokit":
            yield from convokit.rows_of_folders(paths, names, scratch)
        elif part.what.kind == "table" and part.what.container in ("csv", "parquet"):
            yield from tables.rows_of_files(paths, names, source.columns, connection, scratch)
        elif part.what.kind in ("table", "layout") or part.what.container in ("parquet", "arrow"):
            what = part.what
            yield from fields.rows(part.path, what, source.columns, connection, scratch, engine.report, paths, names)
        else:
            yield from dumps.rows_of_files(paths, names, connection, scratch)
        return
    match part.what.kind, part.what.container:
        case "convokit", _:
            yield from convokit.rows(part.path, connection, scratch, engine.report, repair, carried(source.columns))
        case "submissions" | "comments", "lines":
            others = carried(source.columns)
            yield from dumps.rows(part.path, connection, scratch, engine.report, repair, others)
        case "table", "csv" | "parquet":
            yield from tables.rows(part.path, source.columns, connection, scratch, engine.report, repair)
        case _:
            what = part.what
            yield from fields.rows(part.path, what, source.columns, connection, scratch, engine.report, repair=repair)


def no_utterances() -> PipelineError:
    return PipelineError("The corpus holds no utterances: check the setting corpus (or ADC_CORPUS).")


@contextmanager
def counting(rows: Rows) -> Iterator["Future[int] | None"]:
    """Count the lines that a query reads while the block runs."""
    if not rows.lines:
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: sum(map(lines.count_lines, rows.lines)))


def records(rows: Rows, lines_read: "Future[int] | None", read: int) -> int:
    """Return the number of records of a piece, of which `read` rows were read."""
    if lines_read is None:
        return read if rows.records is None else rows.records
    # Blank lines are no records.
    return read if lines_read.result() == read else sum(map(lines.count_filled_lines, rows.lines))


class SplitFiles:
    """One file a shard in a folder, for rows in their order, each with its position among all of them.

    DuckDB can write a file for each value of a column, too, and loses the order of the rows. 1 million utterances cost
    0.7 s more of a core than one file, whatever the number of shards.
    """

    def __init__(self, folder: Path, names: Sequence[str], schema: "pa.Schema") -> None:
        import pyarrow as pa

        self.folder, self.names = folder, names
        self.schema = schema.remove(schema.get_field_index("shard")).insert(0, pa.field("position", pa.int64()))
        self.writers: dict[int, pq.ParquetWriter] = {}
        self.waiting: dict[int, list[pa.RecordBatch]] = {}
        self.rows = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        """Take the next rows. The bytes of the files do not depend on how rows are batched."""
        while batch.num_rows:
            room = MOST_WAITING - self.rows % MOST_WAITING
            self._sort(batch.slice(0, room))
            if self.rows % MOST_WAITING == 0:
                self.flush()
            batch = batch.slice(room)

    def _sort(self, batch: "pa.RecordBatch") -> None:
        import numpy as np
        import pyarrow as pa

        # NumPy sorts numbers of 16 bits in linear time.
        shards = batch.column("shard").to_numpy().astype(np.uint16 if len(self.names) <= 1 << 16 else np.uint32)
        order = np.argsort(shards, kind="stable")
        ends = np.searchsorted(shards[order], np.arange(len(self.names) + 1))
        positions = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        columns = [positions, *batch.drop_columns(["shard"]).columns]
        grouped = pa.RecordBatch.from_arrays(columns, schema=self.schema).take(pa.array(order))
        for shard in np.unique(shards).tolist():
            begin, end = ends[shard], ends[shard + 1]
            self.waiting.setdefault(shard, []).append(grouped.slice(begin, end - begin))
        self.rows += batch.num_rows

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for shard, batches in self.waiting.items():
            if shard not in self.writers:
                path = self.folder / f"{self.names[shard]}.parquet"
                options = {"compression": "none", "use_dictionary": FEW_VALUES}
                self.writers[shard] = pq.ParquetWriter(path, self.schema, **options)
            # Pages end where chunks do.
            self.writers[shard].write_table(pa.Table.from_batches(batches).combine_chunks(), ROW_GROUP)
        self.waiting = {}

    def close(self) -> None:
        self.flush()
        for writer in self.writers.values():
            writer.close()


def fill_empty_shards(out: Path, names: Sequence[str]) -> None:
    """Write a file without rows for each shard that has none."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(next(out.glob(f"*/{READ}")))
    for name in names:
        if not any((out / name).iterdir()):
            pq.write_table(schema.empty_table(), out / name / f"utterances-00000{FROM}{0:012}.parquet")


def cut(batched: Iterable[tuple[list[Part], str]], shards: int) -> Iterator[Reading]:
    """Yield the tasks of some batches; with several shards, a large plain file is cut at ends of lines."""
    for parts, namespace in batched:
        file = plain_lines(parts[0]) if shards > 1 and len(parts) == 1 else None
        if file is None or file.stat().st_size <= lines.CHUNK:
            yield Reading(tuple(parts), namespace)
        else:
            for begin, end in pairwise(line_ends(file, lines.CHUNK)):
                yield Reading(tuple(parts), namespace, begin, end)


def plain_lines(part: Part) -> Path | None:
    """Return the file of a part whose lines can be read apart from one another; None for any other part."""
    if part.what.kind == "convokit":
        file = part.path / UTTERANCES
    elif part.what.kind in ("submissions", "comments") and part.what.container == "lines":
        file = part.path
    else:
        return None
    return file if lines.is_one_object_a_line(file) else None


def line_ends(path: Path, size: int) -> Iterator[int]:
    """Yield places in a plain file: 0, the ends of lines behind each multiple of `size`, and the end of the file."""
    end = path.stat().st_size
    yield 0
    with path.open("rb") as file:
        place = 0
        while place + size < end:
            file.seek(place + size - 1)
            while (block := file.read(lines.MIB)) and (found := block.find(b"\n")) < 0:
                pass
            if not block:
                break
            place = file.tell() - len(block) + found + 1
            if place < end:
                yield place
    yield end


@contextmanager
def cut_out(reading: Reading, folder: Path) -> Iterator[Sequence[Part]]:
    """Yield the parts of a task; the bytes that it reads of a file lie in `folder` meanwhile."""
    if not reading.end:
        yield reading.parts
        return
    (part,) = reading.parts
    folder.mkdir()
    path = folder / part.path.name
    if part.what.kind == "convokit":
        path.mkdir()
        for other in part.path.iterdir():
            if other.name != UTTERANCES:
                (path / other.name).symlink_to(other.resolve())
    whole, copy = (part.path / UTTERANCES, path / UTTERANCES) if path.is_dir() else (part.path, path)
    with whole.open("rb") as source, copy.open("wb") as target:
        place = reading.begin
        while place < reading.end:
            place += os.sendfile(target.fileno(), source.fileno(), place, reading.end - place)
    try:
        yield [replace(part, path=path)]
    except PipelineError as error:
        # Name what the person knows.
        raise type(error)(str(error).replace(str(path.resolve()), str(part.path.resolve()))) from error
    shutil.rmtree(folder)


def write_titles(
    parts: list[Part],
    namespaces: list[str],
    path: Path,
    counted: Counted,
    connection: "DuckDBPyConnection",
    engine: Engine,
) -> None:
    """Write the titles and sources of ConvoKit's conversations to a Parquet file, one row a conversation."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    entries = path.with_name("entries.parquet")
    schema = pa.schema([(name, pa.string()) for name in ENTRY_COLUMNS])
    with pq.ParquetWriter(entries, schema) as writer:
        for part, namespace in zip(parts, namespaces, strict=True):
            for titles in batched(convokit.titles(part.path) if part.what.kind == "convokit" else (), BATCH):
                rows = [(namespace, *title) for title in titles if title is not None]
                counted.titles_unreadable += len(titles) - len(rows)
                if rows:
                    writer.write_batch(
                        pa.record_batch([string_array(column) for column in zip(*rows, strict=True)], schema)
                    )
    engine.write(connection, "writing the titles", TITLE_ROWS, path, {"entries": str(entries)})
    entries.unlink()


def string_array(values: Sequence[str | None]) -> "pa.StringArray":
    """Return texts as an array of Arrow; `pa.array` would import pandas, which takes as long as 100,000 utterances."""
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def batched(titles: Iterable[convokit.Title | None], size: int) -> Iterator[list[convokit.Title | None]]:
    """Yield lists of at most `size` titles."""
    left = iter(titles)
    while batch := list(islice(left, size)):
        yield batch
