"""From a raw corpus to its rows: every part read once, in order, and written once, dealt out to shards.

This is where all the text passes. DuckDB parses on every core and keeps the order of the source, so that
the number of a row is its position. Dealing the rows out to several shards reads back what was written, by
shard, which takes about as long again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError, first_line, is_disk_full
from adc_pipeline.core.shards import shard_names, shard_sql
from adc_pipeline.corpus.formats import Kind, recognise
from adc_pipeline.corpus.readers import convokit, dumps, lines, tables
from adc_pipeline.corpus.readers.rows import COLUMNS, MACROS, Rows
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TITLES = "titles.parquet"

# One level only: &amp; comes last, so that &amp;lt; becomes &lt; and stays so.
DECODED = """
CREATE TEMP MACRO decoded(content) AS
CASE WHEN contains(content, '&') THEN replace(replace(replace(replace(replace(content,
    '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&#39;', ''''), '&amp;', '&') ELSE content END
"""
AS_IT_IS = "CREATE TEMP MACRO decoded(content) AS content"

FINISHED = {
    "speaker": "coalesce(speaker, '')",
    "text": "coalesce(decoded(text), '')",
    "stickied": "coalesce(stickied, false)",
    "score_hidden": "coalesce(score_hidden, false)",
    "title": "decoded(title)",
    "source": "coalesce(source, $source)",
}
SELECTED = ", ".join(f"{FINISHED[name]} AS {name}" if name in FINISHED else name for name in COLUMNS)

# Texts are not compressed: it would take a quarter of the time of reading them, here and again in each stage
# that looks at them. What is written is two fifths of the JSON.
WRITTEN = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1000"
FINISH = "SELECT {selected} FROM ({rows})"

# A row without a conversation is set aside, in whichever shard.
SHARD = "coalesce({shard}, 0) AS shard"
SPLIT = """
SELECT $first + file_row_number AS position, * EXCLUDE (file_row_number, shard)
FROM read_parquet($rows, file_row_number = true) WHERE shard = $shard
"""

# A conversation may be named by several corpora, or twice by one: the last word holds.
TITLE_ROWS = """
SELECT conversation_id, decoded(arg_max(title, place)) AS title, arg_max(source, place) AS source
FROM ({titles}) GROUP BY conversation_id
"""


def deal(corpus: Path, out: Path, source: CorpusSettings, settings: UtteranceSettings, engine: Engine) -> None:
    """Write every row of `corpus` to `out/SHARD/utterances-NNNNN.parquet`, and ConvoKit's titles to `out`."""
    names = shard_names(settings.shards)
    for name in names:
        (out / name).mkdir()
    parts = recognised(corpus, source)
    with engine.connect(out / "spill") as connection:
        connection.execute(MACROS)
        connection.execute(DECODED if settings.decode_entities else AS_IT_IS)
        position, piece = 0, out / "piece.parquet"
        for number, _ in enumerate(pieces(parts, source, len(names), connection, piece, engine)):
            file = f"utterances-{number:05}.parquet"
            if len(names) == 1:
                piece.rename(out / names[0] / file)
            else:
                position += split(piece, [out / name / file for name in names], position, connection, engine)
        write_titles([path for path, kind in parts if kind == "convokit"], out / TITLES, connection, engine)


def recognised(corpus: Path, source: CorpusSettings) -> list[tuple[Path, Kind]]:
    """The parts of what `corpus.source.fetch` brought, in their order, or the one that `corpus` is itself."""
    alone = corpus.is_file() or (corpus / convokit.LINES).is_file()
    return [(path, recognise(path, source.format)) for path in ([corpus] if alone else sorted(corpus.iterdir()))]


def pieces(
    parts: list[tuple[Path, Kind]],
    source: CorpusSettings,
    shards: int,
    connection: "DuckDBPyConnection",
    piece: Path,
    engine: Engine,
) -> Iterator[None]:
    """Write one piece of the parts after the other to the file `piece`, for the caller to take."""
    import duckdb

    selected = SELECTED if shards == 1 else f"{SELECTED}, {SHARD.format(shard=shard_sql('conversation_id', shards))}"
    for path, kind in parts:
        name = convokit.corpus_name(path) if kind == "convokit" else path.resolve().name.split(".")[0]
        for unpack in (False, True):
            try:
                for rows in rows_of(path, kind, source, connection, piece.with_name("scratch"), engine, unpack):
                    query = FINISH.format(selected=selected, rows=rows.sql)
                    parameters = rows.parameters | {"source": name}
                    engine.write(connection, f"reading {name}", query, piece, parameters, WRITTEN)
                    yield
                break
            except duckdb.Error as error:
                # Only a file read where it lies can have such a line, and of that nothing has been written yet.
                if unpack or not lines.is_too_long(error):
                    if is_disk_full(error) or isinstance(error, duckdb.OutOfMemoryException):
                        raise
                    said = first_line(error)
                    raise PipelineError(
                        f"{path.resolve()}, which the setting corpus names, could not be read ({said}): fetch it again,"
                        " or correct the setting format."
                    ) from error
                engine.report(f"{name} has a line longer than {lines.LINE >> 20} MiB: unpacking it to read on")


def rows_of(
    path: Path,
    kind: Kind,
    source: CorpusSettings,
    connection: "DuckDBPyConnection",
    scratch: Path,
    engine: Engine,
    unpack: bool,
) -> Iterator[Rows]:
    """The rows of one part; `unpack` for a file with lines that DuckDB finds too long."""
    if kind == "convokit":
        return convokit.rows(path, scratch, engine.report, unpack)
    if kind == "table":
        return tables.rows(path, source.columns, connection, engine.report)
    return dumps.rows(path, connection, scratch, engine.report, unpack)


def split(piece: Path, files: list[Path], first: int, connection: "DuckDBPyConnection", engine: Engine) -> int:
    """Deal the rows of `piece` out to one file a shard, in their order; returns how many rows it has."""
    import pyarrow.parquet as pq

    for shard, file in enumerate(files):
        parameters = {"rows": str(piece), "first": first, "shard": shard}
        engine.write(connection, f"dealing to shard {shard + 1} of {len(files)}", SPLIT, file, parameters, WRITTEN)
    rows: int = pq.read_metadata(piece).num_rows
    piece.unlink()
    return rows


def write_titles(corpora: list[Path], path: Path, connection: "DuckDBPyConnection", engine: Engine) -> None:
    """Write what ConvoKit corpora say of their conversations to a Parquet file, by way of JSON lines."""
    spoken = path.with_suffix(".jsonl")
    convokit.write_conversations(corpora, spoken)
    query = TITLE_ROWS.format(titles=convokit.TITLES)
    engine.write(connection, "reading the titles", query, path, {"lines": str(spoken)})
    spoken.unlink()
