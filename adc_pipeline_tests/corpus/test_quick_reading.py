"""The quick query of a reader gives what its other one does, or an error, upon which the other one is taken."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.corpus.readers import convokit, dumps
from adc_pipeline.corpus.readers.rows import Rows
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.stages import read_utterances

TIME = 1_500_000_000
USUAL: list[Any] = [TIME, float(TIME), TIME + 0.5, str(TIME), f"{TIME}.75", None, TIME + 0.999999999]
OTHER: list[Any] = [
    f" {TIME} ", 0, "0", 0.0, "0.0", True, False, -5, 999_999_999, 5_294_967_296, TIME * 1000, TIME * 10**9,
    20200913, "20200913",
    "2018-09-01", "2018-09-01T10:00:00+02:00", "", " ", "nan", "inf", 1e300, "1_500_000_000", "0x59682F00", "1.5e9",
    [TIME], {"$numberLong": str(TIME)}, "soon",
]  # fmt: skip
CONVOKIT = {"id": "a", "conversation_id": "a", "text": "x", "speaker": "s", "timestamp": TIME, "meta": {"score": 1}}
COMMENT = {"id": "c", "link_id": "t3_p", "parent_id": "t3_p", "body": "yes", "created_utc": TIME, "score": 1}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        create_macros(connection)
        connection.execute(dumps.PARENT)
        yield connection


def check_alike(lines: list[Any], rows: Rows, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Check the quick query on each line, one for each of `USUAL` and `OTHER`, against the other query on all of them.

    It has to give the same row, or no row, which it may do only where the value is not written as usual.
    """
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = connection.execute(rows.sql, rows.parameters).fetchall()
    for line, value, row in zip(lines, USUAL + OTHER, expected, strict=True):
        path.write_text(json.dumps(line) + "\n")
        try:
            assert connection.execute(rows.quick, rows.parameters).fetchall() == [row]
        except duckdb.Error:
            assert value not in USUAL


@pytest.mark.parametrize("field", ["timestamp", "retrieved_on", "retrieved_utc", "retrieved_after"])
def test_a_corpus_of_convokit_is_read_alike(field: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    path, lines = tmp_path / "utterances.jsonl", []
    for value in USUAL + OTHER:
        meta = {"score": 1, "retrieved_on": TIME} | ({} if field == "timestamp" else {field: value})
        lines.append(CONVOKIT | {"meta": meta} | ({field: value} if field == "timestamp" else {}))
    rows = Rows(convokit.READ, {"lines": str(path)}, quick=convokit.QUICK)
    check_alike(lines, rows, connection, path)


@pytest.mark.parametrize(
    "field", ["created_utc", "created", "retrieved_on", "retrieved_utc", "updated_utc", "retrieved_2nd_on"]
)
def test_a_dump_is_read_alike(field: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    path, lines = tmp_path / "RC.jsonl", []
    for value in USUAL + OTHER:
        line = COMMENT | {"retrieved_on": TIME} | {field: value}
        if field == "created":
            del line["created_utc"]
        if field == "retrieved_2nd_on":
            line["_meta"] = {field: value}
        lines.append(line)
    rows = Rows(dumps.READ_LINES, {"lines": str(path)}, quick=dumps.QUICK)
    check_alike(lines, rows, connection, path)


@pytest.mark.parametrize("shards", [1, 3])
def test_lines_that_the_quick_query_cannot_read_do_not_stop_it(shards: int, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    usual = [json.dumps(CONVOKIT | {"id": str(number), "reply-to": "a"}) for number in range(5000)]
    odd = [json.dumps(CONVOKIT | {"id": "date", "reply-to": "a", "timestamp": "2018-09-01"}), "{no JSON"]
    (corpus / "utterances.jsonl").write_text("\n".join([json.dumps(CONVOKIT), *usual, *odd]) + "\n")
    write_utterances(corpus, tmp_path / "out", UtteranceSettings(shards=shards), Engine(2, "1GB"))
    assert len(read_utterances(tmp_path / "out")) == 5002
    assert read_utterances(tmp_path / "out", "timestamp", "id = 'date'") == [(1_535_760_000,)]
