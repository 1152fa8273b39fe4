"""Many small files are read together, and give what each gives alone."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus import pieces, readings
from adc_pipeline.corpus.readers import small_files
from adc_pipeline_tests.corpus.test_dumps import COMMENT, SUBMISSION, line
from adc_pipeline_tests.corpus.test_keys import read_corpus
from adc_pipeline_tests.stages import read
from adc_pipeline_tests.trees import Corpus, Row

HEADER = "id,conversation_id,reply_to,speaker,text,score\n"


def write_dumps(folder: Path) -> None:
    """Posts and comments, packed and not, with a mark, blank and broken lines, and no source in some."""
    posts = [{**SUBMISSION, "id": f"p{n}", "selftext": f"post {n}"} for n in range(4)]
    for post in posts[2:]:
        del post["subreddit"]
    comments = [{**COMMENT, "id": f"c{n}", "link_id": f"t3_p{n}", "parent_id": f"t3_p{n}"} for n in range(4)]
    for n in range(4):
        (folder / f"RS_{n}.jsonl").write_bytes(b"\n" + line(posts[n]) + b"{bad\n" * (n == 1))
    (folder / "RC_0.jsonl").write_bytes(b"\xef\xbb\xbf" + line(comments[0]))
    (folder / "RC_1.gz").write_bytes(gzip.compress(line(comments[1]) + line(comments[2])))
    (folder / "RC_2.jsonl").write_bytes(line(comments[3]).rstrip())


def write_tables(folder: Path) -> None:
    """Three tables of one header, one of another, one without quoting, and one with a record that is none."""
    (folder / "a.csv").write_text(HEADER + '1,1,,ann,"two\nlines",1\n')
    (folder / "b.csv").write_text(HEADER + "2,1,1,bob,,2\n3,1\n")
    (folder / "c.csv").write_text(HEADER + "4,1,2,cid,NA,3\n")
    (folder / "d.csv").write_text(HEADER.replace("speaker", "source") + "5,1,1,named,text,4\n")
    (folder / "e.tsv").write_text(HEADER.replace(",", "\t") + '6\t1\t1\tdan\tsays "no\t5\n')


def write_topics(folder: Path) -> None:
    """Topics with their posts, one packed, then tables of JSON lines, of which some rows name a source."""
    for number in range(4):
        posts = [{"topic_id": number, "post_number": n, "reply_to_post_number": None, "cooked": f"<p>{number} {n}</p>",
                  "like_count": n} for n in (1, 2, 3)]  # fmt: skip
        topic = json.dumps({"title": f"topic {number}", "post_stream": {"posts": posts}}).encode() + b"\n"
        (folder / f"{number}.json").write_bytes(gzip.compress(topic) if number == 2 else topic)
    for name in ("x", "y"):
        row = {"id": name, "conversation_id": name, "reply_to": None, "text": name, "score": 1}
        more = {**row, "id": f"{name}2", "reply_to": name, "source": "named"}
        (folder / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(more)}\n")


def write_columns(folder: Path) -> None:
    """Parquet and Arrow files of one schema and of another, of our columns, of Reddit's and of OpenAssistant's."""
    for number in range(3):
        ids: list[Any] = [f"{number}a", f"{number}b"] if number < 2 else [7, 8]
        rows = {
            "id": ids,
            "conversation_id": ids[:1] * 2,
            "reply_to": [None, ids[0]],
            "text": ["x", "y"],
            "score": [1, 2],
        }
        pq.write_table(pa.table(rows), folder / f"{number}.parquet")
        with pa.ipc.new_file(str(folder / f"{number}.arrow"), pa.table(rows).schema) as writer:
            writer.write_table(pa.table(rows))
    for number in range(2):
        posts = [SUBMISSION | {"id": f"p{number}", "subreddit": None if number else "named"}]
        comments = [COMMENT | {"id": f"c{number}{n}", "link_id": "t3_p1", "parent_id": "t3_p1"} for n in range(2)]
        messages = [
            {"message_id": f"m{number}{n}", "parent_id": f"m{number}0" if n else None, "message_tree_id": f"m{number}0",
             "text": "t", "role": "r", "rank": n}
            for n in range(2)
        ]  # fmt: skip
        for name, found in (("posts", posts), ("comments", comments), ("messages", messages)):
            pq.write_table(pa.Table.from_pylist(found), folder / f"{name}{number}.parquet")


def write_folders(folder: Path) -> None:
    """ConvoKit corpora, one with a name of its own, one whose utterances name their source, and one with a mark."""
    for name in "abcd":
        meta = {"score": 1} | ({"subreddit": "named"} if name == "b" else {})
        root = f"{name}0"
        rows = [Row(f"{name}{n}", root, root if n else None, "ann", f"text {n}", n, meta) for n in range(3)]
        corpus = Corpus(rows, {root: {"title": f"Title {name}"}}).write(folder / name)
        if name == "c":
            (corpus / "corpus.json").write_text('{"name": "named by itself"}')
        if name == "d":
            (corpus / "utterances.jsonl").write_bytes(b"\xef\xbb\xbf" + (corpus / "utterances.jsonl").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "shards"),
    [
        *((write, shards) for write in (write_dumps, write_tables, write_topics) for shards in (1, 2)),
        (write_columns, 1),
        (write_folders, 2),
    ],
)
def test_small_files_read_together_equal_each_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, shards: int
) -> None:
    (tmp_path / "files").mkdir()
    write(tmp_path / "files")
    found = {}
    for most in (1, 2000):
        monkeypatch.setattr(readings, "MOST_FILES", most)
        (tmp_path / str(most)).mkdir()
        counts = read_corpus(tmp_path / str(most), [tmp_path / "files"], shards)
        rows = read(tmp_path / str(most) / "out", "utterances-*.parquet", "* EXCLUDE (position)" if shards > 1 else "*")
        found[most] = (counts, rows)
    assert found[1] == found[2000]
    assert found[1][0]["records"] == found[1][0]["read"] > 5
    files = {most: len(list((tmp_path / str(most) / "out").rglob("utterances-*.parquet"))) for most in (1, 2000)}
    assert files[2000] < files[1]


def test_a_file_that_ends_in_the_middle_is_named_among_many(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    write_dumps(tmp_path / "files")
    (tmp_path / "files" / "RC_3.jsonl").write_bytes(line(COMMENT) + line(COMMENT)[:40])
    with pytest.raises(PipelineError, match=r"RC_3\.jsonl.* ends in the middle"):
        read_corpus(tmp_path, [tmp_path / "files"])


@pytest.mark.slow
def test_a_file_that_duckdb_cannot_read_does_not_spoil_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    write_dumps(tmp_path / "files")
    long = b'{"id": "' + b"x" * (40 << 20) + b'"}\n'
    (tmp_path / "files" / "RC_3.jsonl").write_bytes(line(COMMENT) + long)
    monkeypatch.setattr(readings, "SMALL_FILE", 1 << 30)
    counts = read_corpus(tmp_path, [tmp_path / "files"])
    assert (counts["read"], counts["records"], counts["set_aside.malformed"]) == (11, 11, 2)


def test_small_files_are_joined_and_their_objects_numbered(tmp_path: Path) -> None:
    contents = {
        "a": b'{"x": 1}\n\n {"x": 2}',
        "b": b'[{"x": 3}, {"x": 4}]',
        "c": b'{"x": 5}\n{bad\n',
        "d": b'{"x": 6}\n',
    }
    contents["e"] = b'{"x": "' + bytes(b"y" * small_files.JOINED) + b'"}\n'
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "out").mkdir()
    found = small_files.plain_files([tmp_path / name for name in contents], list(contents), tmp_path / "out")
    assert [(path.read_bytes() if len(names) > 1 or names == ["d"] else path, names) for path, names in found] == [
        (b'{"adc: file number": 1, "x": 1}\n\n{"adc: file number": 1, "x": 2}\n'
         b'{"adc: file number": 2, "x": 3}\n{"adc: file number": 2, "x": 4}\n', ["a", "b"]),
        (tmp_path / "c", ["c"]),
        (b'{"adc: file number": 1, "x": 6}\n', ["d"]),
        (tmp_path / "e", ["e"]),
    ]  # fmt: skip


@pytest.mark.slow
def test_of_many_files_few_are_read_alone_since_one_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    for number in range(64):
        (tmp_path / "files" / f"{number:02}.jsonl").write_bytes(line({**SUBMISSION, "id": f"p{number}"}))
    queries: list[str] = []
    write = pieces.PieceWriter._write_query

    def fail_with_the_file(self: Any, doing: str, query: str, parameters: Any) -> None:
        queries.append(doing)
        if any("40" in str(name) for name in parameters.get("names", ())) or parameters["source"] == "40":
            raise duckdb.InvalidInputException(doing)
        write(self, doing, query, parameters)

    monkeypatch.setattr(pieces.PieceWriter, "_write_query", fail_with_the_file)
    with pytest.raises(PipelineError, match=r"40\.jsonl.* could not be read"):
        read_corpus(tmp_path, [tmp_path / "files"])
    assert len(queries) < 20
