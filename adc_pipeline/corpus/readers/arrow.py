"""Open Arrow files and streams (Feather 2, Hugging Face's `save_to_disk`), and read the schema of these and Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    import pyarrow as pa

FILE_MAGIC = b"ARROW1"
# The end of an Arrow file and the beginning of the next.
JOINT = FILE_MAGIC + FILE_MAGIC + bytes(2)
# Looked at at a time behind a stream.
PADDING = 64


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


def schema_names(schema: "pa.Schema") -> list[str]:
    """Return the columns of a schema, and the members of those that are structures as `column.member`."""
    import pyarrow as pa

    def inner(name: str, kind: "pa.DataType") -> Iterator[str]:
        for each in kind if pa.types.is_struct(kind) else ():
            yield f"{name}.{each.name}"
            yield from inner(f"{name}.{each.name}", each.type)

    return [*schema.names, *(name for field in schema for name in inner(field.name, field.type))]


@contextmanager
def open_arrow(path: Path) -> "Iterator[pa.RecordBatchReader]":
    """Yield a reader of the record batches of an Arrow file or stream; memory holds one batch."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as mapped:
        if mapped.read(len(FILE_MAGIC)) != FILE_MAGIC:
            mapped.seek(0)
            first = pa.ipc.open_stream(mapped)
            yield pa.RecordBatchReader.from_batches(first.schema, batches_of_streams(mapped, first))
            return
        mapped.seek(0)
        file: Any = pa.ipc.open_file(mapped)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        yield pa.RecordBatchReader.from_batches(file.schema, batches)


def batches_of_streams(mapped: "pa.MemoryMappedFile", first: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
    """Yield the batches of a stream and of those behind it, where streams were joined; zeros are padding.

    Raises pa.ArrowInvalid for a stream with another schema, and for anything else.
    """
    import pyarrow as pa

    yield from first
    while (place := mapped.tell()) < mapped.size():
        if not mapped.read(PADDING).strip(b"\0"):
            continue
        mapped.seek(place)
        reader = pa.ipc.open_stream(mapped)
        if reader.schema != first.schema:
            raise pa.ArrowInvalid("another schema in a stream behind the first")
        yield from reader


def refuse_joined(path: Path) -> None:
    """Raise PipelineError for several Arrow files behind one another, of which only the last one's table is seen."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        if mapped.find(JOINT) >= 0:
            raise PipelineError(
                f"{path.resolve()}, which the setting corpus names, is several Arrow files behind one another: give"
                " each by itself, in one folder."
            )


def record_batches(path: Path, container: str) -> "Iterator[pa.RecordBatch]":
    """Yield the record batches of a Parquet or Arrow file; texts that are no UTF-8 get U+FFFD for what is none."""
    import pyarrow.parquet as pq

    if container == "parquet":
        with path.open("rb") as file:
            yield from map(with_sound_texts, pq.ParquetFile(file).iter_batches())
    else:
        refuse_joined(path)
        with open_arrow(path) as reader:
            yield from map(with_sound_texts, reader)


def with_sound_texts(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Return a batch whose texts are UTF-8; raises pa.ArrowInvalid if what it consists of does not fit together."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return pa.record_batch(list(map(sound_texts, batch.columns)), batch.schema)
    return batch


def sound_texts(array: "pa.Array") -> "pa.Array":
    """Return texts, also those in structures and lists, with U+FFFD for bytes that are no UTF-8.

    Raises pa.ArrowInvalid for offsets that lead out of the data, as in a damaged file: Arrow's readers do not look at
    them, and reading a value there ends the process.
    """
    import pyarrow as pa

    of_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    array.validate()
    if array.type in of_bytes:
        values = array.view(of_bytes[array.type])
        values.validate(full=True)
        texts = [value if value is None else value.decode(errors="replace") for value in values.to_pylist()]
        return pa.array(texts, array.type)
    if pa.types.is_struct(array.type):
        inner = [sound_texts(array.field(number)) for number in range(array.type.num_fields)]
        array = pa.StructArray.from_arrays(inner, fields=list(array.type), mask=array.is_null())
    elif pa.types.is_list(array.type):
        array = pa.ListArray.from_arrays(array.offsets, sound_texts(array.values), array.type, mask=array.is_null())
    elif pa.types.is_dictionary(array.type):
        texts = sound_texts(array.dictionary)
        array = pa.DictionaryArray.from_arrays(array.indices, texts, ordered=array.type.ordered)
    array.validate(full=True)
    return array


def write_parquet(path: Path, out: Path, container: str) -> Path:
    """Write the rows of a Parquet or Arrow file to another Parquet file, and return it; see `record_batches`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = read_schema(path, container)
    schema = pa.schema([(field.name, storable(pa.nulls(0, field.type)).type) for field in given])
    changed = schema.types != given.types
    schema = schema if changed else given
    with pq.ParquetWriter(out, schema, compression="none") as writer:
        for batch in record_batches(path, container):
            writer.write_batch(pa.record_batch(list(map(storable, batch.columns)), schema) if changed else batch)
    return out


def storable(array: "pa.Array") -> "pa.Array":
    """Return an array as one of a type that Parquet has.

    Structures without fields, which hold nothing, become null, runs of equal values these values, and values of several
    types and intervals texts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(array.type):
        return storable(pc.run_end_decode(array))
    if pa.types.is_union(array.type) or pa.types.is_interval(array.type):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, storable(array.values), mask=array.is_null())
    if not pa.types.is_struct(array.type):
        return array
    if not array.type.num_fields:
        return pa.nulls(len(array))
    inner = [storable(array.field(number)) for number in range(array.type.num_fields)]
    return pa.StructArray.from_arrays(inner, [field.name for field in array.type], mask=array.is_null())


def incomplete(path: Path, kind: str) -> PipelineError:
    return PipelineError(f"{path.resolve()}, which the setting corpus names, is no whole {kind} file: fetch it again.")
