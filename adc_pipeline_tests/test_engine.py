"""DuckDB connections: progress reports of long statements, refused settings, and the order of written rows.

2 s of CPU. The tests assert that reports arrive, not when.
"""

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from adc_pipeline.core import engine
from adc_pipeline.core.engine import Engine, connected
from adc_pipeline.core.errors import PipelineError

# Takes a few tenths of a second, always longer than the interval that the tests set.
LONG = "SELECT max(md5(range::VARCHAR)) FROM range(2_000_000)"
FAILING = "SELECT error(found) FROM (SELECT max(md5(range::VARCHAR)) AS found FROM range(2_000_000))"


def test_a_long_statement_is_reported_by_name_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_REPORTS", 0.02)
    reports: list[str] = []
    reporting = Engine(threads=1, report=reports.append)
    with reporting.connect() as connection:
        reporting.run(connection, "counting", LONG)
    *underway, last = reports
    assert underway
    assert all(re.fullmatch(r"counting: \d+ (%|s)", report) for report in underway)
    assert re.fullmatch(r"counting: done in \d+ s", last)


def test_a_short_statement_is_not_reported() -> None:
    reports: list[str] = []
    reporting = Engine(report=reports.append)
    with reporting.connect() as connection:
        reporting.run(connection, "counting", "SELECT 1")
    assert reports == []


def test_a_statement_that_fails_is_not_reported_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_REPORTS", 0.02)
    reports: list[str] = []
    reporting = Engine(threads=1, report=reports.append)
    with reporting.connect() as connection, pytest.raises(duckdb.Error):
        reporting.run(connection, "failing", FAILING)
    assert reports
    assert not any("done" in report for report in reports)


@pytest.mark.parametrize(("threads", "memory_limit"), [(-1, "1GB"), (1, "lots"), (1, ""), (1, "3 Gigawatts")])
def test_impossible_settings_are_refused_in_one_sentence(threads: int, memory_limit: str) -> None:
    with (
        pytest.raises(PipelineError, match=rf"threads = {threads} with memory_limit = '{memory_limit}'"),
        Engine(threads, memory_limit).connect(),
    ):
        pass


def test_threads_and_memory_reach_duckdb(tmp_path: Path) -> None:
    with Engine(3, "123MiB").connect(tmp_path / "spill") as connection:
        query = "SELECT current_setting('threads'), current_setting('memory_limit')"
        assert connection.execute(query).fetchall() == [(3, "123.0 MiB")]


def test_the_spill_folder_is_removed_even_after_a_failure(tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    with pytest.raises(duckdb.Error), Engine(1, "40MB").connect(spill) as connection:  # noqa: PT012
        spill.mkdir()
        (spill / "duckdb_temp_storage").write_text("")
        connection.execute("SELECT error('full')")
    assert not spill.exists()


@pytest.mark.fast_first
@pytest.mark.parametrize("threads", [1, 4])
def test_rows_are_written_in_the_order_of_their_query(threads: int, tmp_path: Path) -> None:
    """More rows than a row group has, so that several threads write."""
    writing = Engine(threads)
    with writing.connect(tmp_path / "spill") as connection:
        query = "SELECT (range * 7919) % 500_009 AS number FROM range($rows)"
        writing.write(connection, "writing", query, tmp_path / "rows.parquet", {"rows": 400_000})
        ordered = "SELECT range AS number FROM range($rows) ORDER BY hash(range)"
        writing.write(connection, "writing", ordered, tmp_path / "ordered.parquet", {"rows": 400_000})
        expected = [number for (number,) in connection.execute(ordered, {"rows": 400_000}).fetchall()]
    found = {name: duckdb.read_parquet(str(tmp_path / f"{name}.parquet")).fetchall() for name in ("rows", "ordered")}
    assert [number for (number,) in found["rows"]] == [n * 7919 % 500_009 for n in range(400_000)]
    assert [number for (number,) in found["ordered"]] == expected


def test_no_connection_loads_an_extension_by_itself() -> None:
    with connected() as connection, Engine().connect() as other:
        for each in (connection, other):
            settings = "SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions'"
            assert each.execute(settings).fetchall() == [("false",), ("false",)]


def test_no_connection_reaches_the_network_or_an_extension(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    with connected() as connection, Engine().connect(tmp_path / "spill") as other:
        for each in (connection, other):
            each.execute("COPY (SELECT 1 AS number) TO $path", {"path": str(file)})
            assert each.read_parquet(str(file)).fetchall() == [(1,)]
            for statement in (
                "FROM read_parquet('http://127.0.0.1:9/rows.parquet')",
                "FROM read_csv('s3://bucket/rows.csv')",
                "LOAD httpfs",
                "SET enable_external_access = true",
            ):
                with pytest.raises(duckdb.Error, match=r"disabled (by|through) configuration|Cannot enable"):
                    each.execute(statement)


def test_every_connection_is_made_in_one_place() -> None:
    package = Path(engine.__file__).parents[1]
    others = [path for path in package.rglob("*.py") if "duckdb.connect(" in path.read_text()]
    assert others == [Path(engine.__file__)]


def test_a_folder_for_temporary_files_that_is_not_utf_8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp/no\udcffutf")
    with (
        pytest.raises(PipelineError, match=r"temporary files, /tmp/no.udcffutf, .* not UTF-8: set TMPDIR\."),
        Engine().connect(),
    ):
        pass


def fail_while_reading(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.sql("FROM range(1000000)").to_arrow_reader(10)
    rows.read_next_batch()
    raise ZeroDivisionError


def test_an_error_is_not_hidden_by_a_result_that_is_open() -> None:
    with Engine().connect() as instance:
        sharing = Engine(instance=instance)
        with pytest.raises(ZeroDivisionError), sharing.connect() as connection:
            fail_while_reading(connection)


def test_an_error_of_duckdbs_whose_message_is_no_utf8_is_one_of_duckdbs() -> None:
    """It repeats a value of a corpus, and may cut it off in the middle of a character."""
    message = b'Malformed JSON in "\xe2\x88"'

    class Connection:
        def execute(self, statement: str, parameters: object) -> None:
            message.decode()

        def query_progress(self) -> float:
            return -1

    connection: Any = Connection()
    with pytest.raises(duckdb.Error, match="Malformed JSON in"):
        Engine().run(connection, "reading lines", "COPY")
