"""Arrow files: texts that are no UTF-8 are read, and what does not fit together ends in an error of Arrow's."""

import io
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers.arrow import record_batches, write_parquet

# Bytes that are no UTF-8.
BROKEN = b"caf\xe9"
SOUND = "caf\N{REPLACEMENT CHARACTER}"
# The second text would end far behind the data; the first and the last offset are right, as `validate` checks them.
WRONG = struct.pack("<3i", 0, 2**30, len(BROKEN))


def texts(offsets: bytes = struct.pack("<3i", 0, 4, 4)) -> pa.Array:
    """Return two texts, of bytes that are no UTF-8."""
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(BROKEN)])


def lists(offsets: bytes = struct.pack("<3i", 0, 2, 2), inner: pa.Array | None = None) -> pa.Array:
    kind = pa.list_(pa.string())
    return pa.Array.from_buffers(kind, 2, [None, pa.py_buffer(offsets)], children=[inner or texts()])


def written(array: pa.Array, path: Path) -> Path:
    batch = pa.record_batch([array], ["text"])
    with pa.ipc.new_stream(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    return path


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (texts(), [SOUND, ""]),
        (lists(), [[SOUND, ""], []]),
        (pa.StructArray.from_arrays([texts()], ["name"]), [{"name": SOUND}, {"name": ""}]),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0]), texts()), ["", SOUND]),
    ],
    ids=["text", "list", "structure", "dictionary"],
)
def test_texts_that_are_no_utf8_are_read_wherever_they_are(array: pa.Array, expected: Any, tmp_path: Path) -> None:
    (batch,) = record_batches(written(array, tmp_path / "a.arrow"), "arrow")
    batch.validate(full=True)
    assert batch["text"].to_pylist() == expected


@pytest.mark.parametrize(
    "array",
    [
        texts(WRONG),
        lists(inner=texts(WRONG)),
        lists(struct.pack("<3i", 0, 2**30, 2)),
        pa.StructArray.from_arrays([texts(WRONG)], ["name"]),
        pa.DictionaryArray.from_arrays(pa.array([2**30, 0]), texts(), safe=False),
        pa.Array.from_buffers(pa.binary(), 2, [None, pa.py_buffer(WRONG), pa.py_buffer(BROKEN)]),
    ],
    ids=["text", "text in a list", "list", "structure", "dictionary", "bytes"],
)
def test_offsets_that_lead_out_of_the_data_are_an_error_and_not_the_end_of_the_process(
    array: pa.Array, tmp_path: Path
) -> None:
    path = written(array, tmp_path / "a.arrow")
    with pytest.raises(pa.ArrowException):
        list(record_batches(path, "arrow"))


def test_a_structure_without_fields_is_null_and_takes_nothing_with_it(tmp_path: Path) -> None:
    rows: list[Any] = [{"name": "ann", "more": {}, "tags": [{}, None]}, None, {"name": "bob", "more": None, "tags": []}]
    path = written(pa.array(rows), tmp_path / "a.arrow")
    read = pq.read_table(write_parquet(path, tmp_path / "a.parquet", "arrow"))["text"].to_pylist()
    assert read == [
        {"name": "ann", "more": None, "tags": [None, None]},
        None,
        {"name": "bob", "more": None, "tags": []},
    ]


def test_types_that_parquet_does_not_have_are_read(tmp_path: Path) -> None:
    arrays = {
        "runs": (pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"])), ["a", "a"]),
        "several": (
            pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, None]), pa.array([None, "b"])]),
            ["1", "b"],
        ),
    }
    path = tmp_path / "a.arrow"
    batch = pa.record_batch([array for array, _ in arrays.values()], list(arrays))
    with pa.ipc.new_stream(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    read = pq.read_table(write_parquet(path, tmp_path / "a.parquet", "arrow")).to_pydict()
    assert read == {name: expected for name, (_, expected) in arrays.items()}


def content(rows: list[dict[str, int]], stream: bool = True) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("between", [0, 8, 200])
def test_streams_behind_one_another_are_read(tmp_path: Path, between: int) -> None:
    """As `cat` joins them; zeros are padding."""
    path = tmp_path / "a.arrow"
    path.write_bytes(content([{"n": 1}, {"n": 2}]) + content([{"n": 3}]) + bytes(between))
    assert [row["n"] for batch in record_batches(path, "arrow") for row in batch.to_pylist()] == [1, 2, 3]
    for behind in (b"junk" * 10, content([{"m": 1}])):
        path.write_bytes(content([{"n": 1}]) + behind)
        with pytest.raises(pa.ArrowInvalid):
            list(record_batches(path, "arrow"))


def test_files_behind_one_another_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(content([{"n": 1}], stream=False) + content([{"n": 2}], stream=False))
    with pytest.raises(PipelineError, match="several Arrow files behind one another: give each by itself"):
        list(record_batches(path, "arrow"))
