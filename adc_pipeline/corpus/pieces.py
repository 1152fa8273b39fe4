"""Write the rows of some parts, finished and with their shards, piece by piece.

What a part holds is counted a second time by other means than DuckDB, while DuckDB reads it.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.core.shards import shard_sql
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES
from adc_pipeline.corpus.opening.unfit import in_other_encoding
from adc_pipeline.corpus.part_rows import read_parts
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.readers import convokit, lines, mended_json
from adc_pipeline.corpus.readers.carried import carried, quoted
from adc_pipeline.corpus.readers.inner_replies import lost_records
from adc_pipeline.corpus.readers.rows import COLUMNS, Rows
from adc_pipeline.corpus.readers.text_lines import other_encoding_of_lines
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.split_files import ROW_GROUP, SplitFiles

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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
# A row without a conversation goes to the first shard; it is set aside later.
SHARD = "coalesce({shard}, 0) AS shard"


class OtherEncodingError(Exception):
    """A file of JSON lines is in this encoding, which is none of Unicode's."""


@dataclass
class PieceWriter:
    """Writes the rows of parts to the folder `piece`, one file a shard; the caller moves it before the next piece."""

    source: CorpusSettings
    names: Sequence[str]
    connection: "DuckDBPyConnection"
    piece: Path
    engine: Engine
    # Of all pieces, by other means than DuckDB.
    records: int = 0

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
            except (duckdb.Error, pa.ArrowException, OSError, OtherEncodingError) as error:
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
            except OtherEncodingError as encoding:
                path = part.path / UTTERANCES if part.what.kind == "convokit" else part.path
                raise in_other_encoding(path.resolve(), str(encoding)) from None
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if is_no_fault_of_a_file(error):
                    raise
                if lost := lost_records(error, part.path.resolve()):
                    raise lost from error
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
        for rows in read_parts(batch, self.source.columns, self.connection, scratch, self.engine.report, repair):
            query = FINISHED_ROWS.format(selected=selected, rows=rows.sql)
            quick = FINISHED_ROWS.format(selected=selected, rows=rows.quick) if rows.quick else ""
            parameters = {**rows.parameters, "source": name, "namespace": namespace}
            with counting(rows) as lines_read:
                if not (quick and self._is_written(f"reading {name}", quick, parameters)):
                    self._write_query(f"reading {name}", query, parameters)
            more = 0
            if rows.lines and has_unreadable_rows(self.files()):
                if encoding := next(filter(None, map(other_encoding_of_lines, rows.lines)), ""):
                    raise OtherEncodingError(encoding)
                if isinstance(parameters.get("lines"), str):
                    more = self._read_mended(rows, query, parameters)
            self.records += record_count(rows, lines_read, row_count(self.files()) - more) + more
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

    def _read_mended(self, rows: Rows, query: str, parameters: dict[str, object]) -> int:
        """Read the plain file of a piece again if some lines can be mended that could not be read.

        These hold half of a surrogate pair, or a mark or two objects, as where files were joined. Return how many lines
        were added.
        """
        with TemporaryDirectory(dir=self.piece.parent) as folder, rows.lines[0].open("rb") as file:
            copy, found, more = Path(folder) / "lines.jsonl", False, 0
            with copy.open("wb") as out:
                for line in file:
                    mended = mended_json.mended(line)
                    found = found or mended != line
                    more += max(0, mended.count(b"\n") - 1)
                    out.write(mended)
            if found:
                self._write_query("reading mended lines", query, parameters | {"lines": str(copy)})
            return more


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


@contextmanager
def counting(rows: Rows) -> Iterator["Future[int] | None"]:
    """Count the lines that a query reads while the block runs."""
    if not rows.lines:
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: sum(map(lines.count_lines, rows.lines)))


def record_count(rows: Rows, lines_read: "Future[int] | None", read: int) -> int:
    """Return the number of records of a piece, of which `read` rows were read."""
    if lines_read is None:
        return read if rows.records is None else rows.records
    # Blank lines are no records.
    return read if lines_read.result() == read else sum(map(lines.count_filled_lines, rows.lines))
