"""What data engines tell by the names of folders, and what they write beside the data."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.files.folders import Listing, list_data

ROW = {
    "id": "1", "conversation_id": "1", "reply_to": "", "text": "x", "speaker": "ann", "timestamp": 1600000000,
    "score": 1,
}  # fmt: skip
POST = {"id": "p", "title": "t", "selftext": "x", "created_utc": 1, "num_comments": 0}


def write(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row]), path)


def found(folder: Path) -> tuple[list[str], Listing]:
    listing = list_data(folder, "auto")
    return [file.name for file in listing.files], listing


def test_what_jobs_write_beside_their_files_is_no_data(tmp_path: Path) -> None:
    for name in ("part-0.parquet", "x/part-1.parquet", "_temporary/0/part-2.parquet"):
        write(tmp_path / name, ROW)
    for name in ("_metadata", "_common_metadata"):
        pq.write_metadata(pa.Table.from_pylist([ROW]).schema, tmp_path / name)
    names, listing = found(tmp_path)
    assert names == ["part-0", "part-1"]
    assert set(listing.left_out) == {"_temporary/", "_metadata", "_common_metadata"}


def test_the_file_of_a_task_without_rows_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "part-00000-59da.snappy.parquet", ROW)
    for name in ("part-00001-59da.json", "part-r-00002.csv"):
        (tmp_path / name).touch()
    (tmp_path / "part-00003.gz").write_bytes(gzip.compress(b""))
    names, listing = found(tmp_path)
    assert names == ["part-00000-59da"]
    assert set(listing.left_out.values()) == {"is empty"}
    assert len(listing.left_out) == 3
    (tmp_path / "RC_2020-01.jsonl").touch()
    with pytest.raises(PipelineError, match="is empty: fetch it again"):
        found(tmp_path)


@pytest.mark.parametrize("log", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
def test_a_table_whose_log_tells_what_counts_is_refused(tmp_path: Path, log: str) -> None:
    write(tmp_path / "table" / "part-0.parquet", ROW)
    assert found(tmp_path)[0] == ["part-0"]
    (tmp_path / "table" / log).parent.mkdir()
    (tmp_path / "table" / log).write_text("{}")
    with pytest.raises(PipelineError, match="whose log tells which of its files count: write its rows"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("folders", "name"),
    [("source=aww", "aww"), ("year=2015/Source=a%20b", "a b"), ("source=__HIVE_DEFAULT_PARTITION__", "part-0"),
     ("site=aww", "part-0"), ("score=3", "part-0")],
)  # fmt: skip
def test_a_folder_names_the_source_of_a_table_that_does_not(tmp_path: Path, folders: str, name: str) -> None:
    write(tmp_path / folders / "part-0.parquet", ROW)
    assert found(tmp_path)[0] == [name]


def test_a_folder_names_the_subreddit_of_a_dump_that_does_not(tmp_path: Path) -> None:
    dump = tmp_path / "subreddit=aww" / "part"
    dump.parent.mkdir()
    dump.write_text(json.dumps(POST))
    assert found(tmp_path)[0] == ["aww"]
    dump.write_text(json.dumps(POST | {"subreddit": "cats"}))
    assert found(tmp_path)[0] == ["part"]


@pytest.mark.parametrize("lacks", ["score", "speaker", "timestamp"])
def test_a_column_that_only_a_folder_has_is_not_lost(tmp_path: Path, lacks: str) -> None:
    row = {name: value for name, value in ROW.items() if name != lacks}
    write(tmp_path / f"{lacks}=3" / "part-0.parquet", row)
    with pytest.raises(PipelineError, match=f"has no column {lacks}, which only the name of a folder tells"):
        found(tmp_path)
