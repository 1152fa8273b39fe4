"""Times, ids and missing values mean the same in every reader: the SQL macros against the oracle."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from adc_pipeline.corpus.readers import convokit, dumps, tables
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline_tests import oracle


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Kolkata'")
        create_macros(connection)
        connection.execute(dumps.PARENT)
        yield connection


def value(connection: duckdb.DuckDBPyConnection, expression: str, *arguments: object) -> Any:
    (row,) = connection.execute(f"SELECT {expression}", list(arguments)).fetchall()
    return row[0]


TIMES: list[tuple[str, int | None]] = [
    ("1600022012", 1600022012),
    ("1600022012.9", 1600022012),
    ("1.600022012e9", 1600022012),
    ("16e17", 1600000000),
    ("16E8", 1600000000),
    ("1600022012345", 1600022012),
    ("1600022012345.6", 1600022012),
    ("1600022012345678", 1600022012),
    ("1600022012345678901", 1600022012),
    ("-1.5", -2),
    ("-864000000500", -864000001),
    ("99999999999", 99999999999),
    ("2020-09-13T20:33:32+02:00", 1600022012),
    ("2020-09-13T20:33:32+0200", 1600022012),
    ("2020-09-13T20:33:32+02", 1600022012),
    ("2020-09-13 10:33:32.25 -08:00", 1600022012),
    ("2020-09-14T00:03:32+05:30", 1600022012),
    ("2020-09-13T18:33:32Z", 1600022012),
    ("2020-09-13t18:33:32z", 1600022012),
    ("2020-09-13 18:33:32 UTC", 1600022012),
    ("2020-09-13 18:33:32", 1600022012),
    ("2020-09-13T18:33:32,999", 1600022012),
    ("2020/09/13 18:33", 1600021980),
    ("2020-9-3", 1599091200),
    ("Sun, 13 Sep 2020 20:33:32 +0200", 1600022012),
    ("Sun, 13 Sep 2020 18:33:32 GMT", 1600022012),
    ("Sun Sep 13 20:33:32 +0200 2020", 1600022012),
    ("20200913T183332Z", 1600022012),
    ("20200913T183332", 1600022012),
    ("20200913T1833", 1600021980),
    ("20200913T203332+0200", 1600022012),
    ("2020-09-13 06:33:32 PM", 1600022012),
    ("2016-12-31T23:59:60Z", 1483228799),
    ("9999-12-31T23:59:59Z", 253402300799),
    ("20200913183332", 1600022012),
    ("202009131833", 1600021980),
    ("20200913", 1599955200),
    ("20201313", 20201313),
    ("18991231", 18991231),
    ("13 Sep 2020", 1599955200),
    ("May 3, 2020", 1588464000),
    ("September 13, 2020 6:33 PM", 1600021980),
    ("Sun, 13 Sep 2020 11:33:32 PDT", 1600022012),
    ("Sun, 13 Sep 2020 18:33:32 +0000 (UTC)", 1600022012),
    ("13 Sep 2020 18:33 UT", 1600021980),
    ("Sun Sep 13 18:33:32 UTC 2020", 1600022012),
    ("Thu Sep  3 14:33:32 EDT 2020", 1599158012),
    ("Sun Sep 13 2020 20:33:32 GMT+0200 (Central European Summer Time)", 1600022012),
    ("2020-09-13 12:33:32.5 CST", 1600022012),
    ("2020-09-13 11:33:32.123456 -0700 PDT", 1600022012),
    ("2020-09-13T18:33:32[UTC]", 1600022012),
    ("2020-09-13T20:33:32+02:00[Europe/Berlin]", 1600022012),
    ("2020-09-13T16:33:32\u221202:00", 1600022012),
    ("Sep 13, 2020, 6:33:32\u202fPM", 1600022012),
    ("September 13th, 2020 at 6:33 p.m.", 1600021980),
    ("13-Sep-2020 12:33 AM", 1599957180),
    ("2020.09.13 12:33 pm", 1600000380),
    ("20200913183332Z", 1600022012),
    ("637356188120000000", 1600022012),
    ("637356188129999999", 1600022012),
    ("132444956120000000", 1600022012),
    ("13244495612345678", 1600022012),
    ("/Date(1600022012345)/", 1600022012),
    ("/Date(1600022012345+0200)/", 1600022012),
    ("/Date(-1)/", -1),
    *[(written, None) for written in ("yesterday", "/Date()/", "/Date(1e3)/",
                                      "2020-02-30", "2020-09-13T25:00:00", "13.09.2020", "nan", "inf",
                                      "2020-09-13 20:33:32 CEST", "2020-09-13 20:33:32 (PST)",
                                      "2020-09-13 20:33:32 IST", "Sun, 13 Sep 2020 20:33:32 BST",
                                      "Sunday, 13-Sep-20 18:33:32 GMT", "9/13/2020 6:33 PM", "2020-09-13 18:33 PM",
                                      "2020-09-13 0:33 AM", "31 Jun 2020", "13 Sepp 2020", "Sept 2020",
                                      "2020-09-13T20:33:32+25:00", "1,600", "-",
                                      "99999999999999999999", "12:30")],
]  # fmt: skip


@pytest.mark.parametrize(("written", "seconds"), TIMES)
def test_a_time_is_seconds_since_1970_in_utc(
    connection: duckdb.DuckDBPyConnection, written: str, seconds: int | None
) -> None:
    assert value(connection, "seconds($1)", written) == seconds
    assert value(connection, "is_unreadable(seconds($1), $1)", written) == (True if seconds is None else None) or (
        written == "nan"
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_a_time_does_not_depend_on_the_times_around_it(connection: duckdb.DuckDBPyConnection, reverse: bool) -> None:
    times = TIMES[::-1] if reverse else TIMES
    # Each behind one with an offset, too.
    written = [each for time, _ in times for each in ("Sun, 13 Sep 2020 20:33:32 +0200", time)]
    found = connection.execute("SELECT seconds(written) FROM (SELECT unnest($1) AS written)", [written]).fetchall()
    assert found[1::2] == [(seconds,) for _, seconds in times]


@pytest.mark.parametrize("written", ["", "NA", "nan", "None", "\\N", None])
def test_a_missing_time_is_not_counted_as_unreadable(
    connection: duckdb.DuckDBPyConnection, written: str | None
) -> None:
    assert value(connection, "is_unreadable(seconds($1), $1)", written) is None


zones = st.one_of(st.none(), st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))))


@pytest.mark.slow
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=zones),  # type: ignore[arg-type]
    st.sampled_from(["T", " "]),
    st.sampled_from(["seconds", "milliseconds", "microseconds", "minutes"]),
)
@settings(max_examples=200, deadline=None)
def test_a_date_is_the_moment_that_it_names(
    connection: duckdb.DuckDBPyConnection, moment: datetime, separator: str, precision: str
) -> None:
    written = moment.isoformat(separator, precision)
    utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    expected = (utc.replace(second=0) if precision == "minutes" else utc).replace(microsecond=0)
    assert value(connection, "seconds($1)", written) == expected.timestamp() == oracle.seconds(written)


@pytest.mark.slow
@given(st.integers(10**8, 10**11 - 1), st.integers(0, 10**9 - 1), st.sampled_from([0, 3, 6, 9]))
@settings(max_examples=200, deadline=None)
def test_the_unit_of_a_number_is_told_by_its_size(
    connection: duckdb.DuckDBPyConnection, seconds: int, fraction: int, digits: int
) -> None:
    written = f"{seconds}{fraction:09}"[: len(str(seconds)) + digits]
    assume(not oracle.compact(written))
    # Counts from another year lie in between.
    assume(not (digits == 6 and 11_644_473_600 <= seconds <= 15_746_918_400))
    assume(not (digits == 9 and 116_444_736 <= seconds <= 157_469_184))
    assume(not (digits == 9 and 621_355_968 <= seconds <= 662_380_416))
    # From 1973 on the units do not meet; 64 bits hold nanoseconds up to 2262.
    expected = seconds if int(written) < 2**63 else None
    assert value(connection, "seconds($1)", written) == expected
    assert expected is None or oracle.seconds(written) == seconds


written_ids = st.one_of(
    st.sampled_from(["", "1.0", "7.", "7.5", "007", "v1.0", "1e5", "1.5e+3", "9007199254740991.0", "9007199254740992.0",
                     "9.007199254740994e+15", "12.10", "1.2.3", "-5.0", "-0.0", "0.0", "1e+05", "1E+15", "1.23457E+11",
                     "1.234567E+11", "1.5E+3", "5e+3x", " 5", "5.0 ", " ", "NA ", "None", "NULL", "Nan", "<NA>",
                     '="001"', '="7.0"', '="a', '=="1"', '="a"b"',
                     *oracle.NOTHING]),
    st.text(alphabet="0123456789.eE+-", max_size=8),
    st.text(max_size=6),
)  # fmt: skip


@pytest.mark.slow
@given(written_ids, written_ids, written_ids)
@example("a\N{NO-BREAK SPACE} ", "\N{NO-BREAK SPACE}", "a")
@example("a", "a\N{NO-BREAK SPACE} ", " \N{EM SPACE}a")
@settings(max_examples=300, deadline=None)
def test_ids_and_parents_are_the_oracles(
    connection: duckdb.DuckDBPyConnection, written: str, parent: str, conversation_id: str
) -> None:
    assert value(connection, "text_id($1)", written) == oracle.identifier(written)
    nothing = value(connection, "is_nothing($1)", parent)
    assert nothing == oracle.is_nothing(parent)
    if not nothing:
        assert value(connection, "text_parent($1)", parent) == (
            oracle.identifier(parent) or oracle.without_spaces(parent) or None
        )


@pytest.mark.parametrize(("written", "id"), [('="001"', "001"), ('="1.0"', "1.0"), ('=""', None), ("=1", "=1")])
def test_what_excel_puts_around_a_text_is_no_part_of_an_id(
    connection: duckdb.DuckDBPyConnection, written: str, id: str | None
) -> None:
    for macro in ("text_id", "text_parent"):
        assert value(connection, f"{macro}($1)", written) == id
    assert value(connection, "[is_nothing($1), is_no_id($1)]", written) == [id is None] * 2


@pytest.mark.parametrize(
    ("written", "id"),
    [("\t001", "001"), ("001\t", "001"), ("\tabc \t", "abc"), ("a\tb", "a\tb"), ("\t", None), ("1,23457E+18", None),
     ("abc\N{NO-BREAK SPACE}", "abc"), ("\N{BYTE ORDER MARK}7", "7"), ("7\r\n", "7"), ("7.0\t", "7"),
     ("\N{NO-BREAK SPACE}", None), ("é", "é"), ("\N{ZERO WIDTH SPACE}é", "é"), ("1,2E+05", None),
     ("1,2", "1,2"), ("x,1E+05", "x,1E+05")],
)  # fmt: skip
def test_what_people_and_excel_do_to_long_digits(
    connection: duckdb.DuckDBPyConnection, written: str, id: str | None
) -> None:
    assert value(connection, "text_id($1)", written) == id == oracle.identifier(written)
    if not written.startswith("1,") and id:
        assert value(connection, "text_parent($1)", written) == id


@pytest.mark.parametrize(
    ("written", "nothing"),
    [("(null)", True), ("[NULL]", True), ("<none>", True), ("\"\"", True), ("''", True), ("nil", True), ("[]", True),
     ("{}", True), ("(None)\t", True), ("<NA>", True), ("(nulls)", False), ("[null, 1]", False), ("(1)", False),
     ("<abc>", False), ("nulla", False)],
)  # fmt: skip
def test_nothing_may_be_enclosed(connection: duckdb.DuckDBPyConnection, written: str, nothing: bool) -> None:
    assert value(connection, "is_nothing($1)", written) is oracle.is_nothing(written) is nothing
    # Early posts of Reddit are called nil, na and none.
    assert value(connection, "is_no_id($1)", written) is (nothing and written != "nil")


@pytest.mark.parametrize(("number", "id"), [("16777215.0", "16777215"), ("16777216.0", None), ("7.5", None)])
def test_a_float_of_four_bytes_is_an_id_if_it_is_exact(
    connection: duckdb.DuckDBPyConnection, number: str, id: str | None
) -> None:
    assert value(connection, "short_number_id($1)", number) == id
    assert [tables.id_macro(kind) for kind in ("FLOAT", "DOUBLE", "DECIMAL(18,3)", "VARCHAR")] == [
        "short_number_id", "number_id", "number_id", "text_id",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "score"),
    [("1.2k", 1200), ("1,2K", 1200), ("-3k", -3000), ("2.5 M", 2500000), ("12.3k points", 12300), ("1 point", 1),
     ("3 pts", 3),
     ("7 points", 7), ("\N{MINUS SIGN}3 Votes", -3), ("1,234 upvotes", 1234), ("5\N{NO-BREAK SPACE}likes", 5),
     ("1 234", 1234), ("1'234", 1234), ("12\N{NARROW NO-BREAK SPACE}345", 12345), ("1.5", None), ("1.5 points", None),
     ("k", None), ("points", None), ("1.2kk", None), ("1 2", None), ("50%", None), ("score hidden", None),
     ("Vote", None)],
)  # fmt: skip
def test_a_score_may_be_written_as_pages_show_it(
    connection: duckdb.DuckDBPyConnection, written: str, score: int | None
) -> None:
    assert value(connection, "score_number($1)", written) == score


@pytest.mark.parametrize(
    ("written", "true"),
    [("true", True), ("1", True), ("1.0", True), ("0.0", False), ("2", True), ("False", False), ("nan", None),
     ("", None), ("perhaps", None), (None, None), ("WAHR", True), ("Faux", False)],
)  # fmt: skip
def test_truth_may_be_a_number(connection: duckdb.DuckDBPyConnection, written: str | None, true: bool | None) -> None:
    assert value(connection, "truth($1)", written) is true


@pytest.mark.parametrize(
    ("written", "mark"),
    [("moderator", "moderator"), ("true", "true"), ("None", None), ("nan", None), ("", None), ("false", None),
     ("0.0", None), (None, None), ("FALSCH", None)],
)  # fmt: skip
def test_a_mark_may_be_written_as_none(
    connection: duckdb.DuckDBPyConnection, written: str | None, mark: str | None
) -> None:
    assert value(connection, "mark($1)", written) == mark


@pytest.mark.parametrize(
    ("number", "id"),
    [("7", "7"), ("7.0", "7"), ("7.5", None), ("9007199254740992.0", None), ("1e+16", None), ("nan", None),
     ("9007199254740993", "9007199254740993")],
)  # fmt: skip
def test_a_number_is_an_id_if_it_is_exact(connection: duckdb.DuckDBPyConnection, number: str, id: str | None) -> None:
    assert value(connection, "number_id($1)", number) == id


@pytest.mark.parametrize(
    ("name", "kind", "bare"),
    [("t1_abc", "t1_", "abc"), ("t3_1", "t3_", "1"), ("t5_2qh", "t5_", "t5_2qh"), ("t7_x", None, "t7_x"),
     ("t1abc", None, "t1abc"), ("tom", None, "tom"), ("t3_", "t3_", None), ("", None, None), ("T1_a", None, "T1_a")],
)  # fmt: skip
def test_reddit_names_have_kinds(
    connection: duckdb.DuckDBPyConnection, name: str, kind: str | None, bare: str | None
) -> None:
    assert value(connection, "kind_of($1)", name) == kind
    assert value(connection, "without_kind($1)", name) == bare


@pytest.mark.parametrize(
    ("written", "seconds", "score", "id"),
    [
        ("1600022012", 1600022012, 1600022012, "1600022012"),
        ("0600022012", 600022012, 600022012, "0600022012"),
        ("9999999999", 9999999999, 9999999999, "9999999999"),
        ("1.600022e9", 1600022000, 1600022000, "1600022000"),
        ("16000220.5", 16000220, None, "16000220.5"),
        ("-160002201", -160002201, -160002201, "-160002201"),
        ("2020-09-13", 1599955200, None, "2020-09-13"),
        ("1.5", 1, None, "1.5"),
        (".5", 0, None, ".5"),
        ("7.", 7, 7, "7"),
        ("1e3", 1000, 1000, "1e3"),
        ("-12", -12, -12, "-12"),
        ("a.5", None, None, "a.5"),
        ("a ", None, None, "a"),
        (" a", None, None, "a"),
        ("7.0 ", 7, 7, "7"),
        ("1.23457E+12", 1234570000, 1234570000000, None),
        ("1.23457E+06", 1234570, 1234570, "1234570"),
        (" ", None, None, None),
        ("", None, None, None),
    ],
)
def test_the_usual_values_are_read_by_the_same_rules(
    connection: duckdb.DuckDBPyConnection, written: str, seconds: int | None, score: int | None, id: str | None
) -> None:
    """Ten digits, short scores and ids that begin with a letter take a shorter way to the same values."""
    assert value(connection, "[seconds($1)::VARCHAR, whole_number($1)::VARCHAR, text_id($1)]", written) == [
        None if seconds is None else str(seconds),
        None if score is None else str(score),
        id,
    ]


@pytest.mark.parametrize(
    ("written", "score"),
    [("1,234", 1234), ("-12,345,678", -12345678), ("1,234.0", 1234), ("5,0", 5), ("1,23", None), ("1234,567", None),
     ("1,234.5", None), ("0,5", None), ("x,000", None), ("7", 7), ("1e3", 1000), ("", None), (None, None),
     ("\N{MINUS SIGN}12", -12), ("\N{MINUS SIGN}", None)],
)  # fmt: skip
def test_a_score_may_have_commas_between_thousands(
    connection: duckdb.DuckDBPyConnection, written: str | None, score: int | None
) -> None:
    assert value(connection, "score_number($1)", written) == score


def test_scores_of_dumps_and_of_convokit_are_read_as_those_of_tables(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text('{"id": "a", "body": "x", "score": "1,234", "meta": {"score": "1,234"}}\n')
    connection.execute(dumps.PARENT)
    for sql in (convokit.READ, dumps.READ_LINES):
        result = connection.execute(sql, {"lines": str(tmp_path / "lines")})
        names = [column[0] for column in result.description]
        assert [row[names.index("score")] for row in result.fetchall()] == [1234]


@pytest.mark.parametrize("sql", [convokit.READ, dumps.READ_LINES], ids=["convokit", "dumps"])
def test_the_order_of_the_source_is_kept(
    connection: duckdb.DuckDBPyConnection, sql: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """DuckDB copies in order only if no operator of the plan loses it, as the join of a long IN does."""
    folder = tmp_path_factory.mktemp("order")
    (folder / "lines").write_text('{"id": "a"}\n')
    parameters = {"lines": str(folder / "lines"), "out": str(folder / "out")}
    ((_, plan),) = connection.execute(f"EXPLAIN COPY ({sql}) TO $out (FORMAT parquet)", parameters).fetchall()
    assert "Batch Copy To File" in plan
