"""Open Arrow files and streams (Feather 2, Hugging Face's `save_to_disk`), and read the schema of these and Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    import pyarrow as pa

FILE_MAGIC = b"ARROW1"


def read_schema(path: Path, container: str) -> "pa.Schema":
    """Return the schema of a Parquet or Arrow file; raises PipelineError where it is incomplete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if container == "parquet":
            with path.open("rb") as file:
                return pq.read_schema(file)
        with open_arrow(path) as reader:
            return reader.schema
    except (pa.ArrowException, OSError) as error:
        raise incomplete(path, "Parquet" if container == "parquet" else "Arrow") from error


@contextmanager
def open_arrow(path: Path) -> "Iterator[pa.RecordBatchReader]":
    """Yield a reader of the record batches of an Arrow file or stream; memory holds one batch."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as mapped:
        if mapped.read(len(FILE_MAGIC)) != FILE_MAGIC:
            mapped.seek(0)
            yield pa.ipc.open_stream(mapped)
            return
        mapped.seek(0)
        file: Any = pa.ipc.open_file(mapped)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        yield pa.RecordBatchReader.from_batches(file.schema, batches)


def record_batches(path: Path, container: str) -> "Iterator[pa.RecordBatch]":
    """Yield the record batches of a Parquet or Arrow file."""
    import pyarrow.parquet as pq

    if container == "parquet":
        with path.open("rb") as file:
            yield from pq.ParquetFile(file).iter_batches()
    else:
        with open_arrow(path) as reader:
            yield from reader


def write_parquet(path: Path, out: Path) -> Path:
    """Write the rows of an Arrow file or stream to a Parquet file, and return it."""
    import pyarrow.parquet as pq

    with open_arrow(path) as reader, pq.ParquetWriter(out, reader.schema, compression="none") as writer:
        for batch in reader:
            writer.write_batch(batch)
    return out


def count_records(path: Path) -> int:
    """Return the number of rows of an Arrow file or stream, without a look at their values."""
    with open_arrow(path) as reader:
        return sum(batch.num_rows for batch in reader)


def incomplete(path: Path, kind: str) -> PipelineError:
    return PipelineError(f"{path.resolve()}, which the setting corpus names, is no whole {kind} file: fetch it again.")
