"""What a source is, is told from what is in it."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.first_bytes import SIGNATURES, signature
from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.recognition import formats
from adc_pipeline.corpus.recognition.formats import Format, recognise
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source

COMMENT = {"id": "c", "link_id": "t3_p", "parent_id": "t3_p", "body": "yes"}
SUBMISSION = {"id": "p", "title": "why", "selftext": ""}


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize(("value", "kind"), [(COMMENT, "comments"), (SUBMISSION, "submissions")])
def test_a_dump_is_told_by_its_keys_whatever_its_name_and_packing(
    tmp_path: Path, pack: type[bytes], value: dict[str, str], kind: str
) -> None:
    path = tmp_path / "RS_or_RC"
    path.write_bytes(pack(b"\n{broken\n\xff\n[1]\n" + line(value)))
    assert recognise(path).kind == kind


def test_an_object_longer_than_a_block_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(line(COMMENT | {"body": "x" * (3 << 20)}))
    assert recognise(path).kind == "comments"


def test_no_more_files_are_remembered_than_a_server_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "SEEN", {})
    monkeypatch.setattr(formats, "MOST_SEEN", 2)
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(line(COMMENT))
        assert recognise(tmp_path / f"{number}").kind == "comments"
    assert len(formats.SEEN) == 1


def test_a_folder_with_utterances_is_a_convokit_corpus(tmp_path: Path) -> None:
    (tmp_path / "utterances.jsonl").write_text("")
    assert recognise(tmp_path).kind == "convokit"


@pytest.mark.parametrize("header", ["id,conversation_id,text", "\ufeffid;text", "id\ttext"])
def test_a_file_with_a_header_is_a_table(tmp_path: Path, header: str) -> None:
    path = tmp_path / "some.txt"
    path.write_text(header + "\n1,2,3\n")
    assert recognise(path).kind == "table"


def test_a_parquet_file_is_a_table(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "some.data")
    assert recognise(tmp_path / "some.data").kind == "table"
    with pytest.raises(PipelineError, match="is a Parquet file and not a dump"):
        recognise(tmp_path / "some.data", "dump")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"{\n  'pretty': 1\n}\n", "Python's notation of objects, .*: write them by `json.dumps`"),
        (b"[{u'id': 1, u'body': None}]\n", "Python's notation of objects"),
        (b"{\n  pretty: 1\n}\n", "none of its first records is a JSON object"),
        (line({"columns": ["id", "text"], "index": [0], "data": [[1, "x"]]}), "a whole table as one JSON object"),
        (b"[1, 2]\n", "none of its first values is a JSON object"),
        (b"just text\n", "neither JSON lines nor"),
        (b'callback([{"id": 1}]);', "a script with JSON in it: keep what is between"),
        (b'window.YTD.tweets.part0 = [ {"id": 1} ]', "a script with JSON in it"),
        (line('{"id": 1, "body": "x"}'), "was encoded twice: decode each line once"),
        (b"BZh91AY&SY\x00\xff,\xfe\n", "ends in the middle"),
        ("id,text".encode("utf-16"), "text in UTF-16: save it as UTF-8"),
        (line({"id": "a", "conversation_id": "a", "text": "", "meta": {}}), "give the folder"),
        (line({"message": "API rate limit exceeded", "documentation_url": ""}), "an error message of a site"),
        (b"[table]\nid = 1\n", "a file of settings"),
        (b"{\\rtf1\\ansi hello}", "a text document"),
        (line({"messages": [{"role": "user", "content": "x"}]}), "chats with a model .* carry no score"),
        (line({"conversations": [{"from": "human", "value": "x"}]}), "chats with a model .* carry no score"),
        (line({"name": 1, "age": 2}), "the keys age, name, which no known layout has: .* setting columns"),
        (
            line({"ID": "c", "BODY": "", "LINK_ID": "t3_p"}),
            "keys of other spellings than Reddit's .*: write them in small",
        ),
        (b"[" * 100_000 + b"\n", "none of its first values"),
        (line({"id": 1, "parent_id": 2, "body": "", "post_id": 3}), "which no known layout has"),
        (line({"id": 1, "title": "", "created_utc": 1, "permalink": "", "content": ""}), "which no known layout has"),
        (b"\n <!DOCTYPE HTML>\n", "a web page"),
        (b"<rss><item/></rss>", "without elements `row`"),
        (b"404: Not Found", "an error message of a site"),
        (b"COPY public.posts (id, text) FROM stdin;\n", "a dump of a SQL database"),
        (b"outs:\n- md5: 3c\n", "a DVC pointer .*`dvc pull`"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "packed twice"),
        (b"ORC" + bytes(range(200)), "an ORC file"),
        (b"id,text\n1,caf\xe9\n2,na\xefve\n", r"in Windows-1252 \(`iconv .*: save it as UTF-8"),
        (b'{"id": "\xcf\xf0\xe8"}\n{"id": "\xe2\xe5\xf2"}\n', "in another encoding, such as Windows-1251"),
        (
            line([{"type": "header", "comment": "Export to JSON plugin for PHPMyAdmin"}, {"data": []}]),
            "export it as CSV",
        ),
        (line({"name": "x", "hits": 1, "rows": [COMMENT]}), "inside its records, .* on a line of its own.$"),
        (line({"id": "c", "body": "", "link_id": "t3_p", "score": 1}), "without parent_id, .* what each answers"),
        (line({"id": "c", "body": "", "parent_id": "t1_d", "created_utc": 1}), "without link_id, .* which post"),
        (b"id,body,author,score,permalink\nc,x,ann,1,/r/x/comments/p/t/c/\n", "without link_id and parent_id"),
        (gzip.compress(b"RDX3\nX\n\0\0\0\3" + bytes(300), mtime=0), "a file of R"),
        (bytes(range(1, 9)) * 9 + bytes(99), "binary data of an unknown kind"),
    ],
)
def test_what_cannot_be_a_corpus_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "unknown"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=sentence) as caught:
        recognise(path)
    assert "setting corpus" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "content", "kind"),
    [
        ("table", line(COMMENT), "table"),
        ("dump", b"id,text\n", "submissions"),
        ("dump", line(COMMENT), "comments"),
    ],
)
def test_a_setting_overrides_what_is_in_it(tmp_path: Path, wanted: Format, content: bytes, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert recognise(path, wanted).kind == kind


def test_a_lone_file_or_a_folder_of_another_kind_is_no_convokit_corpus(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(line(COMMENT))
    with pytest.raises(PipelineError, match="is one file"):
        recognise(tmp_path / "file", "convokit")
    with pytest.raises(PipelineError, match="without utterances"):
        recognise(tmp_path, "convokit")
    with pytest.raises(PipelineError, match="The setting format is 'parquet'"):
        recognise(tmp_path, "parquet")  # type: ignore[arg-type]


def test_the_parent_may_be_a_key_of_later_lines_only(tmp_path: Path) -> None:
    post = {"id": "a", "conversation_id": "a", "text": "", "score": 1}
    path = tmp_path / "table.jsonl"
    path.write_bytes(line(post) * 1001 + line(post | {"answers": "a"}))
    columns = {"reply_to": "answers"}
    assert recognise(path, columns=columns).kind == "table"
    check_source(CorpusSettings(str(path), columns=columns))
    with pytest.raises(PipelineError, match="has no key answer but"):
        recognise(path, columns={"reply_to": "answer"})


def test_a_first_line_beyond_the_limit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE", 100)
    (tmp_path / "dump").write_bytes(line({"long": "x" * 200}) + line({"id": "p", "title": "", "selftext": ""}))
    assert recognise(tmp_path / "dump").kind == "submissions"


def test_every_signature_is_found_by_its_first_bytes() -> None:
    for entry in SIGNATURES:
        spellings = [entry.magic, entry.magic.upper()] if entry.ignore_case else [entry.magic]
        for magic in spellings:
            start = bytes(range(1, 1 + entry.offset % 200)).ljust(entry.offset, b"\1")
            found = signature(start + magic + b" and more")
            # A web page is found anywhere near the beginning.
            assert found is entry or found.what == entry.what
            if magic[:1] in (b"<", b"-"):
                assert signature(b" \n" + magic).what == entry.what
