"""Read every part of a raw corpus once, in order, and write its rows as Parquet, partitioned into shards.

All text passes through this module once. DuckDB parses on every core and keeps the order of the source, so the number
of a row is its position. With several shards, each piece is written once and then read again per shard, which takes
about as long again.

What each part holds is counted a second time by other means than DuckDB, while DuckDB reads it.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.core.shards import shard_names, shard_sql
from adc_pipeline.corpus import fields
from adc_pipeline.corpus.namespaces import part_namespaces
from adc_pipeline.corpus.parts import Part, list_parts
from adc_pipeline.corpus.readers import convokit, dumps, lines, tables
from adc_pipeline.corpus.readers.rows import COLUMNS, Rows
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline.corpus.recorded_files import unchanged_while_read
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings

if TYPE_CHECKING:
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
FINISHED_ROWS = "SELECT {selected} FROM ({rows})"

# A row without a conversation goes to the first shard; it is set aside later.
SHARD = "coalesce({shard}, 0) AS shard"
SHARD_ROWS = """
SELECT $first + file_row_number AS position, * EXCLUDE (file_row_number, shard)
FROM read_parquet($rows, file_row_number = true, hive_partitioning = false) WHERE shard = $shard
"""

# Lists as parameters: arrays of pyarrow would import pandas, which costs as much as 100,000 utterances.
ENTRIES = """
CREATE TEMP TABLE entries (namespace VARCHAR, conversation_id VARCHAR, title VARCHAR, source VARCHAR, place BIGINT)
"""
ADD_ENTRIES = """
INSERT INTO entries SELECT $namespace, unnest($ids::VARCHAR[]), unnest($titles::VARCHAR[]), unnest($sources::VARCHAR[]),
    $place + generate_subscripts($ids::VARCHAR[], 1)
"""
# Several corpora of one namespace may name a conversation, or one corpus may name it twice: the last entry wins.
TITLE_ROWS = """
SELECT namespace, conversation_id, decode_entities(arg_max(title, place)) AS title, arg_max(source, place) AS source
FROM entries GROUP BY namespace, conversation_id
"""
BATCH = 100_000


@dataclass
class Counted:
    """What was counted while the parts were read, apart from the rows.

    `records` are the records of all parts, by other means than DuckDB; `titles_unreadable` the entries of ConvoKit's
    `conversations.json` that are no JSON objects.
    """

    records: int = 0
    titles_unreadable: int = 0


def shard_rows(corpus: Path, out: Path, source: CorpusSettings, settings: UtteranceSettings, engine: Engine) -> None:
    """Write every row of `corpus` to `out/SHARD/utterances-NNNNN.parquet`, and titles and counts to `out`."""
    names = shard_names(settings.shards)
    for name in names:
        (out / name).mkdir()
    parts = list_parts(corpus, source)
    namespaces = part_namespaces(parts, source.columns)
    counted = Counted()
    with unchanged_while_read(corpus), engine.connect(out / "spill") as connection:
        create_macros(connection)
        connection.execute(DECODE_ENTITIES if settings.decode_entities else KEEP_ENTITIES)
        number, position, piece = 0, 0, out / "piece.parquet"
        for part, namespace in zip(parts, namespaces, strict=True):
            for _ in write_pieces(part, namespace, source, len(names), connection, piece, counted, engine):
                file = f"utterances-{number:05}.parquet"
                number += 1
                if len(names) == 1:
                    piece.rename(out / names[0] / file)
                else:
                    files = [out / name / file for name in names]
                    position += split_piece(piece, files, position, connection, engine)
        write_titles(parts, namespaces, out / TITLES, counted, connection, engine)
    (out / COUNTED).write_text(json.dumps(asdict(counted)) + "\n")


def write_pieces(
    part: Part,
    namespace: str,
    source: CorpusSettings,
    shards: int,
    connection: "DuckDBPyConnection",
    piece: Path,
    counted: Counted,
    engine: Engine,
) -> Iterator[None]:
    """Write one piece of a part after the other to the file `piece`; the caller moves it before the next."""
    import duckdb
    import pyarrow.parquet as pq

    selected = SELECTED if shards == 1 else f"{SELECTED}, {SHARD.format(shard=shard_sql('conversation_id', shards))}"
    name = convokit.corpus_name(part.path, part.name) if part.what.kind == "convokit" else part.name
    for repair in (False, True):
        written = 0
        try:
            for rows in read_part(part, source, connection, piece.with_name("scratch"), engine, repair):
                query = FINISHED_ROWS.format(selected=selected, rows=rows.sql)
                parameters = {**rows.parameters, "source": name, "namespace": namespace}
                with counting(rows) as lines_read:
                    engine.write(connection, f"reading {name}", query, piece, parameters, PARQUET_OPTIONS)
                written += 1
                counted.records += records(rows, lines_read, pq.read_metadata(piece).num_rows)
                yield
            return
        except duckdb.Error as error:
            if is_disk_full(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise
            # Only a file that DuckDB reads in place can be repaired, and nothing of it has been written yet.
            if repair or written:
                raise PipelineError(
                    f"{part.path.resolve()}, which the setting corpus names, could not be read: it is damaged, or not"
                    " of the format that it seems to have. Fetch it again, or correct the setting format."
                ) from error
            engine.report(f"{name} has a row that DuckDB cannot read: reading {name} again in a slower way")


def read_part(
    part: Part, source: CorpusSettings, connection: "DuckDBPyConnection", scratch: Path, engine: Engine, repair: bool
) -> Iterator[Rows]:
    """Return the rows of one part; with `repair`, in a slower way that accepts rows which DuckDB cannot read."""
    match part.what.kind, part.what.container:
        case "convokit", _:
            return convokit.rows(part.path, scratch, engine.report, repair)
        case "submissions" | "comments", "lines":
            return dumps.rows(part.path, connection, scratch, engine.report, repair)
        case "table", "csv" | "parquet":
            return tables.rows(part.path, source.columns, connection, scratch, engine.report, repair)
        case _:
            return fields.rows(part.path, part.what, source.columns, connection, scratch, engine.report)


@contextmanager
def counting(rows: Rows) -> Iterator["Future[int] | None"]:
    """Count the lines that a query reads while the block runs."""
    if rows.lines is None:
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lines.count_lines, rows.lines)


def records(rows: Rows, lines_read: "Future[int] | None", read: int) -> int:
    """Return the number of records of a piece, of which `read` rows were read."""
    if rows.lines is None or lines_read is None:
        return read if rows.records is None else rows.records
    # Blank lines are no records.
    return read if lines_read.result() == read else lines.count_filled_lines(rows.lines)


def split_piece(piece: Path, files: list[Path], first: int, connection: "DuckDBPyConnection", engine: Engine) -> int:
    """Move the rows of `piece` to one file a shard, in order, numbered from `first`; return how many there are."""
    import pyarrow.parquet as pq

    for shard, file in enumerate(files):
        parameters = {"rows": str(piece), "first": first, "shard": shard}
        doing = f"writing shard {shard + 1} of {len(files)}"
        engine.write(connection, doing, SHARD_ROWS, file, parameters, PARQUET_OPTIONS)
    rows: int = pq.read_metadata(piece).num_rows
    piece.unlink()
    return rows


def write_titles(
    parts: list[Part],
    namespaces: list[str],
    path: Path,
    counted: Counted,
    connection: "DuckDBPyConnection",
    engine: Engine,
) -> None:
    """Write the titles and sources of ConvoKit's conversations to a Parquet file, one row a conversation."""
    place = 0
    connection.execute(ENTRIES)
    for part, namespace in zip(parts, namespaces, strict=True):
        for titles in batched(convokit.titles(part.path) if part.what.kind == "convokit" else (), BATCH):
            rows = [title for title in titles if title is not None]
            counted.titles_unreadable += len(titles) - len(rows)
            ids, names, sources = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
            values = {"namespace": namespace, "ids": ids, "titles": names, "sources": sources, "place": place}
            connection.execute(ADD_ENTRIES, values)
            place += len(titles)
    engine.write(connection, "writing the titles", TITLE_ROWS, path)


def batched(titles: Iterable[convokit.Title | None], size: int) -> Iterator[list[convokit.Title | None]]:
    """Yield lists of at most `size` titles."""
    left = iter(titles)
    while batch := list(islice(left, size)):
        yield batch
