"""A table's columns become an utterance's, and a row that does not fit is counted, not dropped."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.first_bytes import is_parquet
from adc_pipeline.corpus.part_rows import read_parts
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.readers import convokit, delimited, dialects, dumps, tables
from adc_pipeline.corpus.readers.rows import COLUMNS
from adc_pipeline.corpus.readers.values import create_macros
from adc_pipeline.corpus.recognition.formats import Recognised, recognise
from adc_pipeline.corpus.sample.threads import write_sample

HEADER = "id,conversation_id,reply_to,text,score,timestamp,speaker\n"
EMPTY = dict.fromkeys(COLUMNS)


def read(
    path: Path, columns: dict[str, str] | None = None, reports: list[str] | None = None, repair: bool = False
) -> list[dict[str, Any]]:
    found: list[tuple[Any, ...]] = []
    report = (reports if reports is not None else []).append
    with duckdb.connect() as connection:
        create_macros(connection)
        part = Part(path, Recognised("table", "parquet" if is_parquet(path) else "csv"), path.name)
        for rows in read_parts([part], columns or {}, connection, path.parent / "scratch", report, repair):
            result = connection.execute(rows.sql, rows.parameters)
            assert [(column[0], str(column[1])) for column in result.description] == list(COLUMNS.items())
            found += result.fetchall()
            assert rows.records == len(found)
    assert list((path.parent / "scratch").iterdir()) == []
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def parquet(path: Path, **columns: Any) -> Path:
    needed: dict[str, list[Any]] = {name: ["a"] for name in tables.NEEDED}
    pq.write_table(pa.table(needed | columns), path)
    return path


def test_a_csv_file_is_read_by_rfc_4180_and_what_does_not_fit_is_a_row_of_nulls_in_its_place(tmp_path: Path) -> None:
    path, reports = tmp_path / "some.csv", list[str]()
    path.write_bytes(
        HEADER.encode() + b'a,a,,"hi, there",1,5,ann\nb,a,a,"two\nlines",x,2020-01-01 00:00:00,bob\nbad,row\n'
        b'c,a,a,"a ""quote""",3,7,cid,and,more\nd,a,b,\xff\xfe,3,7,dan\ne,a,b,nul\x00,3.0,7.9,"ev"\n'
        b'f,a,b,"open,3,7,fay\n'
    )
    rows = read(path, reports=reports)
    assert rows == [
        EMPTY | {"id": "a", "conversation_id": "a", "text": "hi, there", "score": 1, "timestamp": 5, "speaker": "ann"},
        EMPTY | {"id": "b", "conversation_id": "a", "reply_to": "a", "text": "two\nlines", "timestamp": 1577836800,
                 "speaker": "bob"},
        *[EMPTY] * 3,
        EMPTY | {"id": "e", "conversation_id": "a", "reply_to": "b", "text": "nul\x00", "score": 3, "timestamp": 7,
                 "speaker": "ev"},
        EMPTY,
    ]  # fmt: skip
    assert reports == ["4 records of some.csv could not be read and are set aside as malformed"]


def test_a_quote_that_is_never_closed_costs_one_record(tmp_path: Path) -> None:
    path, row = tmp_path / "some.csv", "a,a,,hi,1,5,ann\n"
    path.write_text(
        HEADER + row * 10 + 'b,a,a,"open,1,5,bob\n' + row * 1000 + 'c,a,a,"closed",1,5,cid\n' + row * 5 + "z"
    )
    rows = read(path)
    assert [row["id"] for row in rows] == ["a"] * 10 + [None] + ["a"] * 1000 + ["c"] + ["a"] * 5 + [None]


def test_a_record_beyond_the_greatest_length_is_counted(tmp_path: Path) -> None:
    path, row = tmp_path / "some.csv", "a,a,,hi,1,5,ann\n"
    long = f'b,a,a,"{"x" * (delimited.LINE + 1)}",1,5,bob\n'
    path.write_text(HEADER + row * 10 + long + row * 5 + long.replace("b,a,a", "c,a,a").rstrip())
    assert [r["id"] for r in read(path)] == ["a"] * 10 + [None] + ["a"] * 5 + [None]


def records(path: Path, content: str) -> list[tuple[str | None, ...]]:
    """The cells of a file with the columns a, b and c; None for a record that does not fit."""
    path.write_text(content, newline="")
    counted = delimited.write_records(path, dialects.read_dialect(path), path.with_suffix(".parquet"))
    found = [tuple(row.values()) for row in pq.read_table(path.with_suffix(".parquet")).to_pylist()]
    assert counted == delimited.Counted(len(found), found.count((None, None, None)))
    return found


NONE = (None, None, None)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("1,\r2,3\n4,5,6\n", [("1", "\r2", "3"), ("4", "5", "6")]),
        ("1,2,3\r4,5,6\n7,8,9\r\n", [("1", "2", "3"), ("4", "5", "6"), ("7", "8", "9")]),
        ("1,2,3\r4,5\n7,8,9\n", [NONE, ("7", "8", "9")]),
        ('1,"a\rb",3\r\n4,5,6\r\r\n', [("1", "a\rb", "3"), ("4", "5", "6")]),
        ("\n1,2,3\n\r\n\n4,5,6", [("1", "2", "3"), ("4", "5", "6")]),
        ("1,2,3,\n4,5,6\n", [NONE, ("4", "5", "6")]),
        ('1,"b" c,3\n4,5" x 6",6\n', [NONE, ("4", '5" x 6"', "6")]),
        ('1,"x\ny\n,z",3\n', [("1", "x\ny\n,z", "3")]),
        ('1,"x\n4,5,6\n7,8,9",3\n', [("1", "x\n4,5,6\n7,8,9", "3")]),
        ('1,2,3\n4,"x\n7,8,9', [("1", "2", "3"), NONE, ("7", "8", "9")]),
        ("", []),
    ],
)
def test_every_line_of_a_csv_file_has_a_fate(tmp_path: Path, lines: str, found: list[tuple[str | None, ...]]) -> None:
    assert records(tmp_path / "some.csv", "a,b,c\n" + lines) == found


@pytest.mark.parametrize("inside", ["\r", "\n"])
@pytest.mark.parametrize("end", ["", "\r"])
def test_a_file_with_the_line_ends_of_old_macs_is_read(tmp_path: Path, inside: str, end: str) -> None:
    content = f'a,b,c\r1,"2{inside}3",4\r5,6,7{end}'
    assert records(tmp_path / "some.csv", content) == [("1", "2\n3", "4"), ("5", "6", "7")]


def test_a_table_with_the_line_ends_of_old_macs_is_recognised_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_bytes(b'id,conversation_id,reply_to,text,score\r1,1,,"a\nb",1\r')
    assert recognise(tmp_path / "some.txt") == Recognised("table", "csv")


UNQUOTED = 'a\tb\tc\n1\t"begins\t3\n4\tbetween\t6\n7\tends"\t9\n1\t"Yes," he said.\t2\n'


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_a_file_that_does_not_quote_is_read_so(tmp_path: Path, separator: str) -> None:
    texts = [cells[1] for cells in records(tmp_path / "some.tsv", UNQUOTED.replace("\t", separator))]
    assert texts == ['"begins', "between", 'ends"', '"Yes," he said.']
    # Whatever else is in the file.
    broken = UNQUOTED + "1\t2\n" + "1\t2\t3\n" * 5
    assert records(tmp_path / "some.tsv", broken.replace("\t", separator))[3:6] == [
        ("1", '"Yes," he said.', "2"), NONE, ("1", "2", "3"),
    ]  # fmt: skip


def test_a_line_that_is_no_record_does_not_hide_that_a_file_does_not_quote(tmp_path: Path) -> None:
    lines = 'a\tb\tc\n1\t"begins\t3\n4\tshort\n7\tends"\t9\n1\t2\n3\t4\n5\t6\t7\n'
    found = [("1", '"begins', "3"), NONE, ("7", 'ends"', "9"), NONE, NONE, ("5", "6", "7")]
    assert records(tmp_path / "some.tsv", lines) == found


@pytest.mark.parametrize(
    "content",
    [
        UNQUOTED.replace("\t", ","),
        'a\tb\tc\n1\t"two\nlines"\t3\n4\t"a\ttab"\t6\n7\t"one\t8\n9\tother"\t10\n',
    ],
    ids=["commas", "a file that quotes"],
)
def test_other_files_are_read_with_quotes(tmp_path: Path, content: str) -> None:
    assert ("1", '"begins', "3") not in records(tmp_path / "some.csv", content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("sep=;\na;b;c\n1;2;3\n", [("1", "2", "3")]),
        ('a,b,c\n,,\n1,,\n,"",\n,2,\n,,\n', [("1", "", ""), ("", "2", "")]),
        ('a, b, c\n1, "2, x", 3\n', [("1", "2, x", "3")]),
        ("a,b,c\n1,2,3\na,b,c\n4,5,6\n", [("1", "2", "3"), ("4", "5", "6")]),
        ("a,b,c\n1,2,3\n\ufeffa,b,c\n4,5,6\nA , B , C\n", [("1", "2", "3"), ("4", "5", "6")]),
        ("# made by hand, in May\n\n# again\na,b,c\n1,2,3\n", [("1", "2", "3")]),
        ('# one, two\n#a\tb\tc\n1\t"2\t3\n', [("1", '"2', "3")]),
        ("#,b,c\n1,2,3\n", [("1", "2", "3")]),
        ("'a','b','c'\n1,'it''s, so',3\n4,'x\\'y,\nz',6\n", [("1", "it's, so", "3"), ("4", "x'y,\nz", "6")]),
        ('"a","b","c"\n"1","x",2,3\n"2","y",4,5\n', [("1", "x", "2", "3"), ("2", "y", "4", "5")]),
        ("a,b,c\n1,x,2,3\n2,y,4,5\n", [NONE, NONE]),
        ("a,b,c\n1,2,3,,\n4,5,6,,\n", [("1", "2", "3", "", ""), ("4", "5", "6", "", "")]),
        ("a,b,c,,\n1,2,3\n4,5,6\n", [("1", "2", "3"), ("4", "5", "6")]),
        ("sep=^\na^b^c\n1^2,5^3\n", [("1", "2,5", "3")]),
        ('a,b,c\n1,"say \\"x\\", y",3\n4,C:\\d,6\n', [("1", 'say "x", y', "3"), ("4", "C:\\d", "6")]),
        ('a,b,c\n1,"say \\"x\n\\" y",3\n', [("1", 'say "x\n" y', "3")]),
        ('a,b,c\n1,"ends with \\",3\n4,"a ""x"" b",6\n', [("1", "ends with \\", "3"), ("4", 'a "x" b', "6")]),
        ('a\tb\tc\n1\t"a ""x"" b"\t3\n4\t"a" b\t6\n', [("1", 'a "x" b', "3"), NONE]),
        ('"a"\t"b"\t"c"\n"1"\t"2"\t"3"\n"4"\t"x "y" z"\t"6"\n', [("1", "2", "3"), NONE]),
    ],
    ids=["Excel's first line", "rows without a value", "spaces", "a header again",
         "a header again, spelled otherwise", "remarks", "a header among remarks",
         "a first name that looks like a remark", "apostrophes", "names of rows",
         "more cells", "separators behind records", "separators behind the header", "another sign that is named",
         "backslashes", "backslashes and lines", "no backslashes", "doubled quotes", "a quoted header"],
)  # fmt: skip
def test_other_ways_of_writing_a_file(tmp_path: Path, content: str, found: list[tuple[str | None, ...]]) -> None:
    assert records(tmp_path / "some.csv", content) == found


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path: Path) -> None:
    assert records(tmp_path / "some.csv", "a,b,c\n1,2,3,\n4,5,6,\n") == [("1", "2", "3", ""), ("4", "5", "6", "")]


@pytest.mark.parametrize("separator", ["^", ":", "~", "\x01", "\x1f", "\xac"])
def test_any_sign_separates_that_parts_five_names(tmp_path: Path, separator: str) -> None:
    lines = ["id,conversation_id,reply_to,text,score", "a,a,,hello; there|you,5", 'b,a,a,"no,4', "c,a,b,end,3"]
    (tmp_path / "some.csv").write_text("\n".join(lines).replace(",", separator))
    assert recognise(tmp_path / "some.csv") == Recognised("table", "csv")
    assert [row["text"] for row in read(tmp_path / "some.csv")] == ["hello; there|you", '"no', "end"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b,c\n1,2,3\nc,b,a\n6,5,4\n", r"another order \(c, b, a\): write what is below it"),
        ("a,b,c,d\n1,2,3,4\na,b,c,e\n6,5,4,3\n", r"other columns .*\(a, b, c, e\)"),
        (HEADER + "1,1,,hi,1,5,ann\n\nUser,Mail,Joined,Posts,Likes,Rank,Forum\nann,a,b,3,4,c,d\n", "of another table"),
        (
            HEADER + 3 * "a,a,,hi,x,5,ann\n" + "user_id,mail,joined,posts,likes,rank,forum\nann,a,b,3,4,c,d\n",
            "another table",
        ),
        (HEADER + 3 * "1,1,,hi,1,5,ann\n" + "nummer,beitrag,antwort,inhalt,punkte,zeit,wer\n", "another table"),
        (HEADER + 3 * "1,1,,hi,1,5,ann\n" + "编号,帖子,回复,内容,分数,时间,作者\n", "another table"),
        ("| a | b | c |\n|---|:-:|--:|\n| 1 | 2 | 3 |\n", "a table drawn for people"),
        (" a | b | c\n---+---+---\n 1 | 2 | 3\n", "a table drawn for people"),
    ],
)
def test_what_would_be_read_as_what_it_is_not_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        records(tmp_path / "some.csv", content)


@pytest.mark.parametrize(("separator", "nothing"), [(";", ""), ("\t", ""), (";", "NA"), (";", r"\N"), ("\t", "nan")])
def test_whole_numbers_with_a_decimal_comma_are_read(tmp_path: Path, separator: str, nothing: str) -> None:
    lines = [f"7|7|{nothing}|5,0|1,0|1500000000,0|", "8|7|7,0|x|||9", "9|7|8,0|y|2,0|1500000001,00|9,0"]
    (tmp_path / "some.csv").write_text("\n".join([HEADER.strip().replace(",", "|"), *lines]).replace("|", separator))
    found = [
        (row["id"], row["reply_to"], row["text"], row["score"], row["timestamp"], row["speaker"])
        for row in read(tmp_path / "some.csv")
    ]
    assert found == [
        ("7", None, "5,0", 1, 1500000000, None), ("8", "7", "x", None, None, "9"),
        ("9", "8", "y", 2, 1500000001, "9,0"),
    ]  # fmt: skip


def test_commas_inside_ids_stay(tmp_path: Path) -> None:
    lines = HEADER.replace(",", ";") + "1,0;1;;a;1,000;5;ann\n1,1;1;1,0;b;2,000;6;bob\n1,2;1;1,1;c;3;7;cid\n"
    (tmp_path / "some.csv").write_text(lines)
    found = [(row["id"], row["reply_to"], row["score"]) for row in read(tmp_path / "some.csv")]
    assert found == [("1,0", None, 1000), ("1,1", "1,0", 2000), ("1,2", "1,1", 3)]


def test_the_tab_separates_where_names_of_columns_hold_commas(tmp_path: Path) -> None:
    assert records(tmp_path / "some.csv", "a\tb\tc, or, d, e\n1\t2\t3\n") == [("1", "2", "3")]


GUARDED = [("1", 'say "x", \\d', "3"), ("4", "C:\\new\\ and\ntwo, \\N", "6"), ("7", '"', "\\"), ("8", "plain", "9")]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE])
def test_a_backslash_before_every_sign_that_is_text_is_no_text(tmp_path: Path, separator: str, quoting: Any) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=quoting, escapechar="\\", doublequote=False, delimiter=separator)
    writer.writerows([("a", "b", "c"), *GUARDED])
    assert records(tmp_path / "some.csv", written.getvalue()) == GUARDED


@pytest.mark.parametrize(
    "texts",
    [
        ["ends with \\", 'a, "quote"', "\\\\"],
        ['a "quote" and \\', "b"],
        ['he said \\"hi\\", ok', "\\n"],
        ["one\\, two", 'a "b"'],
        ["\\\\server", "\\\\\\_(o)_/"],
    ],
)
def test_backslashes_that_are_text_stay(tmp_path: Path, texts: list[str]) -> None:
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        written = io.StringIO()
        rows = [(str(number), text, "x") for number, text in enumerate(texts)]
        csv.writer(written, quoting=quoting).writerows([("a", "b", "c"), *rows])
        assert records(tmp_path / "some.csv", written.getvalue()) == rows
    # A file that neither quotes nor guards.
    plain = [("1", '6\\" pipe', "2"), ("3", '7" pipe', "4")]
    content = "".join("\t".join(row) + "\n" for row in [("a", "b", "c"), *plain])
    assert records(tmp_path / "some.tsv", content) == plain


def test_ids_may_be_bytes(tmp_path: Path) -> None:
    first, second = bytes(range(240, 256)), bytes(range(200, 216))
    for kind in (pa.binary(), pa.binary(16)):
        path = parquet(
            tmp_path / "some.parquet", id=pa.array([first, second], kind), text=["a", "b"], score=[1, 2],
            conversation_id=pa.array([first, first], kind), reply_to=pa.array([None, first], kind),
            speaker=pa.array([second, None], kind),
        )  # fmt: skip
        found = [(row["id"], row["conversation_id"], row["reply_to"], row["speaker"]) for row in read(path)]
        assert found == [(first.hex(), first.hex(), None, second.hex()), (second.hex(), first.hex(), first.hex(), None)]


@pytest.mark.slow
def test_lines_inside_quotes_are_no_records_however_long_the_file(tmp_path: Path) -> None:
    """Beyond 32 MiB, where DuckDB's parallel reader begins anew in the middle of a text."""
    path, inside = tmp_path / "some.csv", "x{},x{},,row inside,1,5,eve\n"
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(200):
            text = "".join(inside.format(f"{number}-{line}", number) for line in range(7000))
            file.write(f'q{number},q{number},,"{text}",1,5,ann\n')
    assert path.stat().st_size > 33 << 20
    assert [row["id"] for row in read(path)] == [f"q{number}" for number in range(200)]


@given(
    st.lists(st.tuples(*[st.text(alphabet='ab",;\t\n\r|\u2028é', max_size=6)] * 3), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
# Each line inside these quotes has as many cells as a record.
@pytest.mark.slow
@example([("", "\t\n", "\t")] * 2, "\t", "\n")
@hypothesis_settings(max_examples=150, deadline=None)
def test_what_csv_writers_write_is_read(rows: list[tuple[str, str, str]], separator: str, end: str) -> None:
    """A writer that quotes all cells leaves no doubt; the last column is not empty, so that no line is blank."""
    rows = [(*row[:2], "z" + row[2]) for row in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
            # No generated cell spells a name of these columns, which would make its row a second header.
            writer.writerows([("c1", "c2", "c3"), ("needs", f"its{separator}\n", "quotes"), *rows])
        with path.open(newline="") as file:
            assert records(path, file.read())[1:] == rows


@pytest.mark.fast_first
@pytest.mark.parametrize(("separator", "newline"), [(",", "\r\n"), (";", "\n"), ("\t", "\n"), ("|", "\n")])
def test_every_usual_separator_is_understood(tmp_path: Path, separator: str, newline: str) -> None:
    path = tmp_path / "some.csv"
    text = (HEADER + "a,a,,hi,1,5,ann\nb,a,a,yes,2,6,bob\n").replace(",", separator).replace("\n", newline)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(row["id"], row["speaker"], row["score"]) for row in read(path)] == [("a", "ann", 1), ("b", "bob", 2)]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(path)) == 2


@pytest.mark.slow
def test_the_order_of_a_long_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(HEADER + "".join(f'i{n},r,a,"a text, and\nmore of it",1,5,ann\n' for n in range(200_000)))
    assert [row["id"] for row in read(path)] == [f"i{n}" for n in range(200_000)]


def test_columns_are_mapped_and_the_optional_ones_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "table"
    odd = 'the "body"; DROP TABLE x'
    pq.write_table(pa.table({"id": ["a"], "conversation_id": ["a"], "to": ["r"], odd: ["hi"], "ups": [3]}), path)
    assert read(path, {"text": odd, "reply_to": "to", "score": "ups"}) == [
        EMPTY | {"id": "a", "conversation_id": "a", "reply_to": "r", "text": "hi", "score": 3}
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "has no column reply_to, score but id, conversation_id, text"),
        ({"reply_to": "id", "score": "points"}, "has no column points but"),
        ({"reply_to": "id", "score": "id", "speaker": "who"}, "has no column who but"),
        ({"texts": "text"}, "maps texts, which no utterance has .did you mean text.."),
        ({"text": ""}, "maps text to '', which is no name of a column"),
        ({"text": "*"}, "maps text to '.', which is no name of a column"),
    ],
)
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, columns: dict[str, str], sentence: str) -> None:
    pq.write_table(pa.table({name: ["a"] for name in ("id", "conversation_id", "text")}), tmp_path / "some.parquet")
    (tmp_path / "some.csv").write_text("id,conversation_id,text\na,a,b\n")
    for name in ("some.parquet", "some.csv"):
        with pytest.raises(PipelineError, match=sentence):
            read(tmp_path / name, columns)
        with pytest.raises(PipelineError, match=sentence):
            tables.check_columns(tmp_path / name, columns)


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("column", "given", "value"),
    [
        ("timestamp", pa.array([datetime(2020, 1, 1, tzinfo=UTC)]), 1577836800),
        ("timestamp", pa.array([datetime(2020, 1, 1)]), 1577836800),
        ("timestamp", pa.array([datetime(2020, 1, 1).date()]), 1577836800),
        ("timestamp", pa.array(["2020-01-01T00:00:00.5"]), 1577836800),
        ("timestamp", pa.array(["infinity"]), None),
        ("timestamp", pa.array([1577836800.25]), 1577836800),
        ("score", pa.array([7.0]), 7),
        ("score", pa.array([7.5]), None),
        ("score", pa.array([float("nan")]), None),
        ("score", pa.array([True]), None),
        ("id", pa.array([7]), "7"),
        ("reply_to", pa.array([7.0]), "7"),
        ("reply_to", pa.array([None], pa.null()), None),
        ("reply_to", pa.array([""]), None),
        ("text", pa.array([b"caf\xc3\xa9"]), "café"),
        ("text", pa.array([["One.", "Two, [three]"]]), "One.\nTwo, [three]"),
        ("text", pa.array([[["One"], ["Two"]]]), '[["One"],["Two"]]'),
        ("text", pa.array([{"en": "hi"}]), '{"en":"hi"}'),
        ("timestamp", pa.array([1577836800123]), 1577836800),
        ("timestamp", pa.array([1577836800123456]), 1577836800),
        ("timestamp", pa.array([1577836800123456789]), 1577836800),
        ("timestamp", pa.array(["2020-01-01T02:00:00+0200"]), 1577836800),
        ("timestamp", pa.array([datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))]), 1577836800),
        ("time_unreadable", pa.array(["ignored"]), None),
        ("id", pa.array([2.0**53]), None),
        ("id", pa.array([7.5]), None),
        ("id", pa.array([float("nan")]), None),
        ("id", pa.array(["7.5"]), "7.5"),
        ("id", pa.array(["9007199254740993"]), "9007199254740993"),
        ("id", pa.array(["9007199254740993.0"]), None),
        ("id", pa.array(["nan"]), None),
        ("id", pa.array([Decimal("7.00")]), "7"),
        ("id", pa.array(["t3_abc"]), "abc"),
        ("kind", pa.array(["ignored"]), None),
        ("reply_to", pa.array([7.5]), "7.5"),
        ("reply_to", pa.array(["NA"]), None),
        ("reply_to", pa.array(["t1_abc"]), "abc"),
        ("retrieved_utc", pa.array([1577836800]), 1577836800),
        ("stickied", pa.array([1]), True),
    ],
)
def test_a_column_may_have_any_sensible_type(tmp_path: Path, column: str, given: pa.Array, value: object) -> None:
    found = read(parquet(tmp_path / "table", **{column: given}))[0]
    assert found["recorded_at" if column == "retrieved_utc" else column] == value


def test_kinds_are_those_of_the_references(tmp_path: Path) -> None:
    path = parquet(tmp_path / "table", id=["a"], reply_to=["t3_b"], timestamp=["soon"])
    (row,) = read(path)
    assert (row["kind"], row["parent_kind"], row["time_unreadable"]) == (None, "t3_", True)


def test_one_text_that_is_no_utf_8_gets_u_fffd(tmp_path: Path) -> None:
    texts = pa.array([b"sound", b"caf\xe9", b"caf\xc3\xa9"]).view(pa.string())
    columns = {name: pa.array(["1", "2", "3"]) for name in tables.NEEDED} | {"text": texts, "stickied": [True] * 3}
    path = tmp_path / "table"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(duckdb.Error, match="UTF"):
        read(path)
    rows = read(path, repair=True)
    assert [(row["id"], row["text"]) for row in rows] == [("1", "sound"), ("2", "caf\ufffd"), ("3", "café")]


@pytest.mark.parametrize("other", ["Score", "score"])
def test_two_columns_of_one_name_are_refused_where_one_of_them_is_read(tmp_path: Path, other: str) -> None:
    names = [*tables.NEEDED, other, "more", "More"]
    pq.write_table(pa.table([["a"]] * len(names), names), tmp_path / "some.parquet")
    with pytest.raises(PipelineError, match=rf"two columns of one name \(score, {other}\): rename one"):
        recognise(tmp_path / "some.parquet")
    pq.write_table(pa.table([["a"]] * 7, [*tables.NEEDED, "more", "More"]), tmp_path / "other.parquet")
    assert recognise(tmp_path / "other.parquet").kind == "table"


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "table")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PipelineError, match="no whole Parquet file"):
        read(path)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [(b"text", "no header of a CSV"), (b"id,text,ID", "two columns of one name .* put a header above")],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes, sentence: str) -> None:
    (tmp_path / "some.csv").write_bytes(header + b"\n1,2,3\n")
    with pytest.raises(PipelineError, match=sentence):
        read(tmp_path / "some.csv")


def test_the_same_conversations_are_the_same_rows_whichever_way_they_come(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_sample(corpus, conversations=60)
    utterances = [json.loads(line) for line in (corpus / "utterances.jsonl").read_text().splitlines()]

    def as_dump(u: dict[str, Any]) -> dict[str, Any]:
        parent = u["reply_to"]
        root = parent is None
        own = {"selftext": u["text"], "title": "?"} if root else {
            "body": u["text"], "link_id": "t3_" + u["conversation_id"],
            "parent_id": ("t3_" if parent == u["conversation_id"] else "t1_") + parent,
        }  # fmt: skip
        return u["meta"] | {"id": u["id"], "author": u["speaker"], "created_utc": u["timestamp"]} | own

    def as_record(u: dict[str, Any]) -> dict[str, Any]:
        flat = {name: u.get(name) for name in ("id", "conversation_id", "speaker", "text", "timestamp")}
        meta = {name: u["meta"].get(name) for name in ("score", "stickied", "score_hidden", "distinguished")}
        return flat | meta | {"parent": u["reply_to"], "source": u["meta"]["subreddit"]}

    (tmp_path / "dump").write_text("".join(json.dumps(as_dump(u)) + "\n" for u in utterances))
    records = [as_record(u) for u in utterances]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "table")
    with (tmp_path / "csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)

    with duckdb.connect() as connection:
        create_macros(connection)
        (lines,) = convokit.rows(corpus, connection, tmp_path)
        ways = [connection.execute(lines.sql, lines.parameters).fetchall()]
        for dump in dumps.rows(tmp_path / "dump", connection, tmp_path):
            ways.append(connection.execute(dump.sql, dump.parameters).fetchall())
    ways += [
        [tuple(row.values()) for row in read(tmp_path / name, {"reply_to": "parent"})] for name in ("table", "csv")
    ]
    # Only in ConvoKit's corpora the titles lie elsewhere, and only a dump tells posts from comments.
    own = [number for number, name in enumerate(COLUMNS) if name not in ("title", "kind", "parent_kind")]
    first, *others = ([tuple(row[number] for number in own) for row in way] for way in ways)
    assert len(first) == len(utterances)
    assert others[:2] == [first, first]
    # CSV cannot tell an empty text from none.
    text = list(COLUMNS).index("text")
    assert others[2] == [(*row[:text], row[text] or None, *row[text + 1 :]) for row in first]


def test_a_member_of_a_structure_can_be_mapped_and_names_are_in_any_case(tmp_path: Path) -> None:
    path = parquet(tmp_path / "some.parquet", author=[{"name": "ann"}], SPEAKER=["x"])
    assert read(path, {"speaker": "author.name"})[0]["speaker"] == "ann"
    assert read(path)[0]["speaker"] == "x"
    assert tables.check_columns(path, {"speaker": "author.name"})["speaker"] == "author.name"
    with pytest.raises(PipelineError, match=r"has no column author.names \(did you mean author.name\?\)"):
        tables.check_columns(path, {"speaker": "author.names"})
    both = parquet(tmp_path / "both.parquet", ID=["b"])
    assert read(both)[0]["id"] == "a"
    (tmp_path / "some.csv").write_text("Id,Conversation_ID,Reply_To,TEXT,Score,Retrieved_On\na,a,,hi,1,9\n")
    assert read(tmp_path / "some.csv") == [
        EMPTY | {"id": "a", "conversation_id": "a", "text": "hi", "score": 1, "recorded_at": 9}
    ]


def test_only_the_header_may_end_with_a_separator(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(HEADER.replace("\n", ",\n") + "a,a,,hi,1,5,ann\n")
    assert [row["text"] for row in read(path)] == ["hi"]


@pytest.mark.parametrize("separator", ["||", "::", "|~|", "<>", ";;", "@@@"])
def test_several_signs_separate_cells_that_hold_one_of_them(tmp_path: Path, separator: str) -> None:
    path, first = tmp_path / "some.txt", separator[0]
    lines = [HEADER.strip().split(","), ["a", "a", "", f"b{first}c", "1", "5", "ann"],
             ["b", "a", "a", f'"d{separator}e\nf"', "2", "", "bob"]]  # fmt: skip
    path.write_text("".join(separator.join(cells) + "\n" for cells in lines))
    assert recognise(path) == Recognised("table", "csv")
    assert [(row["id"], row["text"], row["score"], row["speaker"]) for row in read(path)] == [
        ("a", f"b{first}c", 1, "ann"), ("b", f"d{separator}e\nf", 2, "bob")]  # fmt: skip


def test_unnamed_columns_between_the_named_ones_are_no_separator_of_several_signs(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("id,,conversation_id,,reply_to,,text,,score\na,x,a,x,,x,hi,x,1\n")
    assert [(row["id"], row["text"], row["score"]) for row in read(path)] == [("a", "hi", 1)]


@pytest.mark.parametrize("remark", ["# one, two", "% one, two", "; one, two", ";", "// one, two"])
def test_remarks_stand_before_a_header(tmp_path: Path, remark: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text(f"{remark}\n{HEADER}a,a,,hi,1,5,ann\n")
    assert recognise(path) == Recognised("table", "csv")
    assert [row["text"] for row in read(path)] == ["hi"]


@pytest.mark.parametrize(
    "title",
    ["Export of the forum\n", "Forum, 2020\nby hand\n\n", "Forum,,,,,,\n,,,,,,\n", '"All, of it",,,,,,\n', "3 rows\n"],
)
def test_titles_stand_above_a_header(tmp_path: Path, title: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text(title + HEADER + "a,a,,one,1,5,ann\nb,a,a,two,1,5,bob\n")
    assert recognise(path).kind == "table"
    assert [row["id"] for row in read(path)] == ["a", "b"]


def test_a_reply_with_a_word_for_its_score_is_no_header_of_another_table(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(HEADER + "a,a,,hi,5,x,ann\nb,aa,ab,name,hidden,yes,bob\n1,aa,a,so,7,x,ann\n")
    assert [row["score"] for row in read(path)] == [5, None, 7]


def test_a_table_in_another_encoding_is_refused_wherever_it_shows(tmp_path: Path) -> None:
    path, rows = tmp_path / "some.csv", "a,a,,hi,1,5,ann\n" * 70_000
    broken = "b,a,a,café,1,5,bob\nc,a,a,naïve,1,5,bob\n"
    path.write_text(HEADER + rows + broken, encoding="windows-1252")
    with pytest.raises(PipelineError, match="is not in UTF-8 but in Windows-1252"):
        read(path)
    # Damage beside text that is UTF-8.
    path.write_bytes((HEADER + rows).encode() + broken.encode("windows-1252") + broken.encode())
    assert [row["id"] for row in read(path)[70_000:]] == [None, None, "b", "c"]


def test_a_member_of_a_structure_in_a_structure_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    rows = [{"n": str(n), "on": {"post.of": {"id": "1"}, "said": {"by": {"name": "ann"}}}, "score": n} for n in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    columns = {"id": "n", "conversation_id": "on.post.of.id", "reply_to": "n", "text": "On.said.by.name"}
    assert [(row["conversation_id"], row["text"]) for row in read(path, columns)] == [("1", "ann")] * 2


def test_a_header_whose_first_column_has_no_name_is_no_remark(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(";" + HEADER.replace(",", ";") + "0;a;a;;hi;1;5;ann\n")
    assert [row["text"] for row in read(path)] == ["hi"]


@pytest.mark.parametrize("names", [("", ""), ('"1" ', '"2" '), ('"17" ', '"4" ')], ids=["none", "counted", "of a part"])
def test_a_table_of_r_is_separated_by_spaces(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "some.txt"
    header = " ".join(f'"{name}"' for name in HEADER.strip().split(","))
    rows = [r'"a" "a" NA "so \"good\", it is" 1 5 "ann"', '"b" "a" "a" "in two\nlines" -2 6 "bob"']
    path.write_text("\n".join([header, *map("".join, zip(names, rows, strict=True))]) + "\n")
    found = [tuple(row[name] for name in ("id", "reply_to", "text", "score", "speaker")) for row in read(path)]
    assert found == [("a", None, 'so "good", it is', 1, "ann"), ("b", "a", "in two\nlines", -2, "bob")]


def test_a_table_of_a_database_has_backslashes_before_what_a_text_may_not_hold(tmp_path: Path) -> None:
    path, reports = tmp_path / "some.tsv", list[str]()
    header = "id\tconversation_id\treply_to\ttext\tscore\n"
    path.write_text(
        header + '1\t1\t\\N\ta\\nb\\tc "d\t5\n2\t1\t1\tC:\\\\new\\\\table\t3\n3\t1\t1\ttwo\\\nlines\\\tmore\t4\n'
        "4\t1\t1\tit\\'s\t2\n"
    )
    rows = [(row["reply_to"], row["text"], row["score"]) for row in read(path, reports=reports)]
    assert rows == [(None, 'a\nb\tc "d', 5), ("1", r"C:\new\table", 3), ("1", "two\nlines\tmore", 4), ("1", "it's", 2)]
    assert reports == ["some.tsv has a backslash before signs, as databases write it: reading it again so"]
    # Without \N, or with a backslash before another sign, it is a sign like any other.
    for text in ("1\t1\t\tC:\\new\t5\n", "1\t1\t\\N\tC:\\new\\_\t5\n"):
        path.write_text(header + text)
        assert read(path)[0]["text"] == text.split("\t")[3]


@pytest.mark.parametrize(
    ("written", "scores"),
    [
        (["1.234", "12", "1.000", "-2.000.000"], [1234, 12, 1000, -2000000]),
        (["1.000", "2.000"], [1, 2]),
        (["1.000", "2", "0.500"], [1, 2, None]),
        (["1.0", "2", "7"], [1, 2, 7]),
    ],
    ids=["thousands", "fractions alone", "a fraction beside them", "a float"],
)
def test_points_part_thousands_where_all_of_them_do(
    tmp_path: Path, written: list[str], scores: list[int | None]
) -> None:
    path = tmp_path / "some.csv"
    path.write_text(HEADER + "".join(f"{number},0,0,hi,{score},5,ann\n" for number, score in enumerate(written)))
    assert [row["score"] for row in read(path)] == scores


def test_the_last_sign_of_a_file_of_dos_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(HEADER.encode() + b"a,a,,hi,1,5,ann\r\n\x1a")
    assert [row["id"] for row in read(path)] == ["a"]


def test_what_names_neither_conversation_nor_parent_is_a_root(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(HEADER + "t3_a,,,hi,1,5,ann\nb,NA,NA,ho,1,5,bob\nc,,a,hm,1,5,cid\nnan,,,hm,1,5,cid\n")
    assert [(row["id"], row["conversation_id"], row["reply_to"]) for row in read(path)] == [
        ("a", "a", None), ("b", "b", None), ("c", None, "a"), (None, None, None)]  # fmt: skip


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", "\t", "||"])
def test_tables_that_were_joined_without_a_line_end_lose_no_record(tmp_path: Path, mark: str, separator: str) -> None:
    path, other = tmp_path / "some.csv", HEADER.replace("timestamp,speaker", "speaker,timestamp")
    records = [
        f"{id},a,{parent},hi,7,{5 + place},ann"
        for place, (id, parent) in enumerate((("a", ""), ("b", "a"), ("c", "a")))
    ]
    content = f"{HEADER}{records[0]}\n{records[1]}{mark}{HEADER}{records[2]}\n"
    path.write_text(content.replace(",", separator))
    assert [row["timestamp"] for row in read(path)] == [5, 6, 7]
    # Another table's columns, and a record without a header between.
    for joint in (other, ""):
        path.write_text(f"{HEADER}{records[0]}\n{records[1]}{joint}{records[2]}\n")
        rows = read(path)
        assert rows[0]["timestamp"] == 5
        assert rows[1] == EMPTY
