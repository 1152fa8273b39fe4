"""Joined shards have the bytes of a dataset of one shard, also where a file has several row groups."""

import hashlib
from pathlib import Path

import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import shard_sql
from adc_pipeline.walks.files import PUBLISHED, join_shards, nullable, split_files
from adc_pipeline.walks.grammar import conversations_in_two_splits

# More than two row groups of DuckDB's 122,880 rows.
ROWS = 260_001
COLUMNS = nullable(("number", "text"), "number >= 0")
NUMBERS = f"SELECT range AS number, range::VARCHAR AS text FROM range({ROWS})"  # noqa: S608


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bytes_of_a_file_do_not_depend_on_how_its_rows_lay_in_shards(threads: int, tmp_path: Path) -> None:
    engine, whole = Engine(threads=1), tmp_path / "whole.parquet"
    with engine.connect() as connection:
        numbers = f"SELECT {COLUMNS} FROM ({NUMBERS} ORDER BY range)"  # noqa: S608
        engine.write(connection, "", numbers, whole, options=PUBLISHED)
        shards = []
        for begin, end in ((0, 1), (1, 70_001), (70_001, 70_001), (70_001, 199_999), (199_999, ROWS)):
            shards.append(tmp_path / f"{begin}-{end}.parquet")
            part = f"{numbers} WHERE number BETWEEN {begin} AND {end - 1}"
            engine.write(connection, "", part, shards[-1], options=PUBLISHED)
    engine = Engine(threads=threads)
    with engine.connect() as connection:
        join_shards(connection, engine, "numbers", COLUMNS, shards, tmp_path / "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_a_large_split_has_files_that_depend_on_its_rows_alone(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges of the hash of the conversation's id, in the order of the rows."""
    monkeypatch.setattr("adc_pipeline.walks.files.LEAST_MEASURED", 0)
    monkeypatch.setattr("adc_pipeline.walks.files.TEXT_A_FILE", 5_000)
    columns = nullable(("conversation_id", "number"), "number >= 0")
    rows = "SELECT range AS number, (range // 3)::VARCHAR AS conversation_id FROM range(3000)"
    engine = Engine(threads=1)
    written: list[Path] = []
    with engine.connect() as connection:
        for shard in range(shards):
            written.append(tmp_path / f"{shard}.parquet")
            chosen = f"SELECT {columns} FROM ({rows}) WHERE {shard_sql('conversation_id', shards)} = {shard}"  # noqa: S608
            part = f"{chosen} ORDER BY md5(conversation_id), conversation_id, number"
            engine.write(connection, "", part, written[-1], options=PUBLISHED)
        (tmp_path / "data").mkdir()
        join_shards(connection, engine, "", columns, written, tmp_path / "data" / "train-00000-of-00001.parquet")
        files = split_files(tmp_path, "train")
        assert [Path(file).name for file in files] == [f"train-{number:05}-of-00004.parquet" for number in range(4)]
        joined, found = (
            connection.read_parquet(paths).fetchall() for paths in (files, list(map(str, written)))
        )  # fmt: skip
    assert joined == found
    assert len(found) == 3000
    digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    assert FILES.setdefault("files", digests) == digests


def test_a_conversation_in_several_files_of_a_split_is_in_one_split(tmp_path: Path) -> None:
    """A configuration with more rows has more files."""
    engine = Engine()
    with engine.connect() as connection:
        for file, conversation in {
            "pairs/train-00000-of-00002": "a", "pairs/train-00001-of-00002": "b", "groups/train-00000-of-00001": "b",
            "pairs/test-00000-of-00001": "c",
        }.items():  # fmt: skip
            (tmp_path / file).parent.mkdir(exist_ok=True)
            engine.write(connection, "", f"SELECT '{conversation}' AS conversation_id", tmp_path / f"{file}.parquet")
    assert conversations_in_two_splits(tmp_path, engine) == 0
    (tmp_path / "pairs" / "test-00000-of-00001.parquet").rename(tmp_path / "groups" / "test-00000-of-00001.parquet")
    (tmp_path / "pairs" / "train-00001-of-00002.parquet").rename(tmp_path / "pairs" / "test-00000-of-00001.parquet")
    assert conversations_in_two_splits(tmp_path, engine) == 1


# Of the first number of shards.
FILES: dict[str, list[str]] = {}


@pytest.mark.slow
def test_shards_are_joined_in_less_memory_than_their_rows_take(tmp_path: Path) -> None:
    columns = nullable(("number", "text"), "number >= 0")
    rows = "SELECT range AS number, repeat(md5(range::VARCHAR), 16) AS text FROM range(150_000)"
    with (engine := Engine(threads=1)).connect() as connection:
        engine.write(connection, "", f"SELECT {columns} FROM ({rows})", tmp_path / "0.parquet")  # noqa: S608
    with (engine := Engine(threads=1, memory_limit="180MB")).connect(tmp_path / "spill") as connection:
        join_shards(connection, engine, "", columns, [tmp_path / "0.parquet"] * 4, tmp_path / "joined.parquet")
        assert connection.read_parquet(str(tmp_path / "joined.parquet")).count("*").fetchall() == [(600_000,)]
