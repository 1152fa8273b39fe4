"""Where corpora come from, and what is refused before anything is made of it."""

import json
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from adc_pipeline.corpus.source import CorpusSettings, check_source, check_unchanged, fetch, record_files
from adc_pipeline.corpus.utterances import UtteranceSettings, write_utterances
from adc_pipeline.errors import PipelineError

LINES: list[dict[str, object]] = [
    {"id": "r", "conversation_id": "r", "reply_to": None, "speaker": "ann", "text": "post", "timestamp": 1},
    {"id": "a", "conversation_id": "r", "reply_to": "r", "speaker": "bob", "text": "yes", "timestamp": 2,
     "meta": {"score": 3}},
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (folder / "conversations.json").write_text(json.dumps({"r": {"meta": {"title": "hello"}}}))
    (folder / "index.json").write_text(json.dumps({"version": 1}))
    return folder


def zipped(corpus: Path, archive: Path, prefix: str = "some-corpus/") -> Path:
    with zipfile.ZipFile(archive, "w") as content:
        for path in corpus.iterdir():
            content.write(path, prefix + path.name)
    return archive


def test_a_folder_is_linked_and_a_change_of_it_is_noticed(corpus: Path, tmp_path: Path) -> None:
    fetch(CorpusSettings(str(corpus)), tmp_path, tmp_path / "linked")
    digest = record_files(tmp_path / "linked", tmp_path / "files.json")
    check_unchanged(tmp_path / "linked", tmp_path / "files.json")
    (corpus / "utterances.jsonl").write_text("")
    assert record_files(tmp_path / "linked", tmp_path / "later.json") != digest
    with pytest.raises(PipelineError, match="materialize the asset raw_corpus again"):
        check_unchanged(tmp_path / "linked", tmp_path / "files.json")


@pytest.mark.parametrize("prefix", ["", "some-corpus/", "some/deeper/"])
def test_a_zip_is_unpacked_wherever_the_corpus_lies_in_it(corpus: Path, tmp_path: Path, prefix: str) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip", prefix)
    check_source(str(archive))
    fetch(CorpusSettings(str(archive)), tmp_path, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "utterances.jsonl").read_bytes() == (corpus / "utterances.jsonl").read_bytes()
    assert not (tmp_path / "unzipped").exists()


def test_a_zip_that_would_leave_its_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip", "../outside/")
    with pytest.raises(PipelineError, match="outside its folder"):
        fetch(CorpusSettings(str(archive)), tmp_path, tmp_path / "unpacked" / "corpus")
    assert not (tmp_path / "outside").exists()


def test_a_zip_cut_off_is_refused(corpus: Path, tmp_path: Path) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(PipelineError, match="not a whole zip"):
        check_source(str(archive))


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./missing", "missing.zip", "~/not/there"])
def test_a_path_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        check_source(name)


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="not a ConvoKit corpus"):
        check_source(str(tmp_path))


def test_without_a_network_a_corpus_by_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(PipelineError, match="could not be downloaded"):
        fetch(CorpusSettings("reddit-corpus-small"), tmp_path / "downloads", tmp_path / "corpus")


class Collection(SimpleHTTPRequestHandler):
    """A folder served without a word on the terminal."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collection(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ConvoKit's collection with one corpus in it, on this machine."""
    import convokit.util

    served = tmp_path / "served"
    served.mkdir()
    zipped(corpus, served / "tiny-corpus.zip", "tiny-corpus/")
    (served / "broken-corpus.zip").write_bytes(b"PK")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Collection, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        names = ("tiny-corpus", "broken-corpus")
        config = {
            "cur_version": dict.fromkeys((*names, "subreddit"), 1),
            "DatasetURLs": {name: f"http://127.0.0.1:{server.server_port}/{name}.zip" for name in names},
            "ModelURLS": {},
        }
        (served / "config.json").write_text(json.dumps(config))
        ask, local = convokit.util.requests.get, f"http://127.0.0.1:{server.server_port}/config.json"
        monkeypatch.setattr(convokit.util.requests, "get", lambda _: ask(local))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield
        server.shutdown()


def test_a_corpus_is_downloaded_by_name(collection: None, corpus: Path, tmp_path: Path) -> None:
    for out in ("first", "again"):
        fetch(CorpusSettings("tiny-corpus"), tmp_path / "downloads", tmp_path / out)
        assert (tmp_path / out / "utterances.jsonl").read_bytes() == (corpus / "utterances.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("no-such-corpus", "ConvoKit knows no corpus"), ("broken-corpus", "could not be downloaded")],
)
def test_a_name_that_gives_no_corpus_is_refused(collection: None, tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        fetch(CorpusSettings(name), tmp_path / "downloads", tmp_path / "corpus")


@pytest.mark.parametrize("file", ["utterances.jsonl", "conversations.json"])
def test_a_file_cut_off_in_the_middle_is_refused(corpus: Path, tmp_path: Path, file: str) -> None:
    (corpus / file).write_bytes((corpus / file).read_bytes()[:-9])
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PipelineError, match="fetch the corpus again"):
        write_utterances(corpus, out)
    assert list(out.iterdir()) == []


def test_a_last_line_without_a_newline_is_whole(corpus: Path, tmp_path: Path) -> None:
    lines = corpus / "utterances.jsonl"
    lines.write_bytes(lines.read_bytes().rstrip(b"\n"))
    assert write_utterances(corpus, tmp_path)["taking_part"] == 2


def test_more_set_aside_than_allowed_fails_with_the_reasons(corpus: Path, tmp_path: Path) -> None:
    with (corpus / "utterances.jsonl").open("a") as file:
        file.write(json.dumps(LINES[1] | {"id": "b", "reply_to": "gone"}) + "\n")
    with pytest.raises(PipelineError, match=r"1 of 3 .* \(1 missing_parent\).* max_set_aside"):
        write_utterances(corpus, tmp_path)
    assert write_utterances(corpus, tmp_path, UtteranceSettings(max_set_aside=0.5))["set_aside.missing_parent"] == 1


def test_an_empty_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    (corpus / "utterances.jsonl").write_text("")
    with pytest.raises(PipelineError, match="no utterances"):
        write_utterances(corpus, tmp_path)
