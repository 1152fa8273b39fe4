"""Joined shards have the bytes of a dataset of one shard, also where a file has several row groups."""

from pathlib import Path

import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.walks.datasets import PUBLISHED, join_shards, nullable

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
