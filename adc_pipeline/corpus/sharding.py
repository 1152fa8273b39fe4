"""Read every part of a raw corpus once, in order, and write its rows as Parquet, partitioned into shards.

All text passes through this module once. DuckDB parses on every core and keeps the order of the source, so the number
of a row is its position. With several shards, each piece is written once and then read again per shard, which takes
about as long again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError, first_line, is_disk_full
from adc_pipeline.core.shards import shard_names, shard_sql
from adc_pipeline.corpus import fields
from adc_pipeline.corpus.parts import Part, list_parts
from adc_pipeline.corpus.readers import convokit, dumps, lines, tables
from adc_pipeline.corpus.readers.rows import COLUMNS, MACROS, Rows
from adc_pipeline.corpus.recorded_files import unchanged_while_read
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TITLES = "titles.parquet"

# One level only: &amp; is replaced last, so that &amp;lt; becomes &lt; and no more.
DECODE_ENTITIES = """
CREATE TEMP MACRO decode_entities(content) AS
CASE WHEN contains(content, '&') THEN replace(replace(replace(replace(replace(content,
    '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&#39;', ''''), '&amp;', '&') ELSE content END
"""
KEEP_ENTITIES = "CREATE TEMP MACRO decode_entities(content) AS content"

FINISHED = {
    "speaker": "coalesce(speaker, '')",
    "text": "coalesce(decode_entities(text), '')",
    "stickied": "coalesce(stickied, false)",
    "score_hidden": "coalesce(score_hidden, false)",
    "title": "decode_entities(title)",
    "source": "coalesce(source, $source)",
}
SELECTED = ", ".join(f"{FINISHED[name]} AS {name}" if name in FINISHED else name for name in COLUMNS)

# Texts are not compressed: compression would add a quarter to the time of reading them, here and in each later stage.
# The Parquet files take two fifths of the space of the JSON.
PARQUET_OPTIONS = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1000"
FINISHED_ROWS = "SELECT {selected} FROM ({rows})"

# A row without a conversation goes to the first shard; it is set aside later.
SHARD = "coalesce({shard}, 0) AS shard"
SHARD_ROWS = """
SELECT $first + file_row_number AS position, * EXCLUDE (file_row_number, shard)
FROM read_parquet($rows, file_row_number = true) WHERE shard = $shard
"""

# Several corpora may name one conversation, or one corpus may name it twice: the last entry wins.
TITLE_ROWS = """
SELECT conversation_id, decode_entities(arg_max(title, place)) AS title, arg_max(source, place) AS source
FROM ({titles}) GROUP BY conversation_id
"""


def shard_rows(corpus: Path, out: Path, source: CorpusSettings, settings: UtteranceSettings, engine: Engine) -> None:
    """Write every row of `corpus` to `out/SHARD/utterances-NNNNN.parquet`, and ConvoKit's titles to `out`."""
    names = shard_names(settings.shards)
    for name in names:
        (out / name).mkdir()
    parts = list_parts(corpus, source)
    with unchanged_while_read(corpus), engine.connect(out / "spill") as connection:
        connection.execute(MACROS)
        connection.execute(DECODE_ENTITIES if settings.decode_entities else KEEP_ENTITIES)
        position, piece = 0, out / "piece.parquet"
        for number, _ in enumerate(write_pieces(parts, source, len(names), connection, piece, engine)):
            file = f"utterances-{number:05}.parquet"
            if len(names) == 1:
                piece.rename(out / names[0] / file)
            else:
                position += split_piece(piece, [out / name / file for name in names], position, connection, engine)
        corpora = [part.path for part in parts if part.what.kind == "convokit"]
        write_titles(corpora, out / TITLES, connection, engine)


def write_pieces(
    parts: list[Part],
    source: CorpusSettings,
    shards: int,
    connection: "DuckDBPyConnection",
    piece: Path,
    engine: Engine,
) -> Iterator[None]:
    """Write one piece of the parts after the other to the file `piece`; the caller moves it before the next."""
    import duckdb

    selected = SELECTED if shards == 1 else f"{SELECTED}, {SHARD.format(shard=shard_sql('conversation_id', shards))}"
    for part in parts:
        name = convokit.corpus_name(part.path, part.name) if part.what.kind == "convokit" else part.name
        for unpack in (False, True):
            try:
                for rows in read_part(part, source, connection, piece.with_name("scratch"), engine, unpack):
                    query = FINISHED_ROWS.format(selected=selected, rows=rows.sql)
                    parameters = rows.parameters | {"source": name}
                    engine.write(connection, f"reading {name}", query, piece, parameters, PARQUET_OPTIONS)
                    yield
                break
            except duckdb.Error as error:
                # Only a file that DuckDB reads in place can have such a line, and nothing of it has been written yet.
                if unpack or not lines.is_too_long(error):
                    if is_disk_full(error) or isinstance(error, duckdb.OutOfMemoryException):
                        raise
                    raise PipelineError(
                        f"{part.path.resolve()}, which the setting corpus names, could not be read"
                        f" ({first_line(error)}): fetch it again, or correct the setting format."
                    ) from error
                engine.report(f"{name} has a line longer than {lines.LINE >> 20} MiB: unpacking it to read on")


def read_part(
    part: Part, source: CorpusSettings, connection: "DuckDBPyConnection", scratch: Path, engine: Engine, unpack: bool
) -> Iterator[Rows]:
    """Return the rows of one part; set `unpack` for a file with lines that are too long for DuckDB."""
    match part.what.kind, part.what.container:
        case "convokit", _:
            return convokit.rows(part.path, scratch, engine.report, unpack)
        case "submissions" | "comments", "lines":
            return dumps.rows(part.path, connection, scratch, engine.report, unpack)
        case "table", "csv" | "parquet":
            return tables.rows(part.path, source.columns, connection, engine.report)
        case _:
            return fields.rows(part.path, part.what, source.columns, connection, scratch, engine.report)


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


def write_titles(corpora: list[Path], path: Path, connection: "DuckDBPyConnection", engine: Engine) -> None:
    """Write the titles and sources of ConvoKit's conversations to a Parquet file, by way of JSON lines."""
    entries = path.with_suffix(".jsonl")
    convokit.write_conversations(corpora, entries)
    query = TITLE_ROWS.format(titles=convokit.TITLES)
    engine.write(connection, "reading the titles", query, path, {"lines": str(entries)})
    entries.unlink()
