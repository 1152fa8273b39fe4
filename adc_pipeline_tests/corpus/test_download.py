"""Corpora of ConvoKit's collection by name: whole or not at all, and never fetched twice."""

import json
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import utime
from pathlib import Path
from threading import Thread

import pytest

from adc_pipeline.corpus import download
from adc_pipeline.corpus.source import CorpusSettings, fetch
from adc_pipeline.errors import PipelineError

LINES = '{"id": "r", "conversation_id": "r", "reply_to": null, "speaker": "ann", "text": "post", "timestamp": 1}\n'
NAMES = ("tiny-corpus", "other-corpus", "broken-corpus", "empty-corpus", "cut-off-corpus")


def zipped(archive: Path, prefix: str, lines: str | None = LINES) -> Path:
    with zipfile.ZipFile(archive, "w") as content:
        if lines is not None:
            content.writestr(prefix + "utterances.jsonl", lines)
        content.writestr(prefix + "index.json", json.dumps({"version": 1}))
    return archive


class Collection(SimpleHTTPRequestHandler):
    """A folder served without a word on the terminal; what was asked for stays in `asked`."""

    asked: list[str]

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path.removeprefix("/"))
        super().do_GET()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """ConvoKit's collection with a few corpora in it, on this machine; gives what was asked of it."""
    import convokit.util

    served = tmp_path / "served"
    served.mkdir()
    zipped(served / "tiny-corpus.zip", "tiny-corpus/")
    zipped(served / "other-corpus.zip", "")
    zipped(served / "subreddit.corpus.zip", "")
    zipped(served / "empty-corpus.zip", "", None)
    (served / "broken-corpus.zip").write_bytes(b"PK")
    (served / "cut-off-corpus.zip").write_bytes((served / "tiny-corpus.zip").read_bytes()[:-30])
    requested: list[str] = []
    monkeypatch.setattr(Collection, "asked", requested, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Collection, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        config = {
            "cur_version": dict.fromkeys((*NAMES, "subreddit"), 1),
            "DatasetURLs": {name: f"{address}/{name}.zip" for name in NAMES},
            "ModelURLS": {},
        }
        (served / "config.json").write_text(json.dumps(config))
        ask = convokit.util.requests.get
        monkeypatch.setattr(convokit.util.requests, "get", lambda _: ask(f"{address}/config.json"))
        monkeypatch.setattr(convokit.util, "get_subreddit_info", lambda _: f"{address}/subreddit.corpus.zip")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield requested
        server.shutdown()


@pytest.mark.parametrize("name", ["tiny-corpus", "other-corpus", "subreddit-Cornell"])
def test_a_corpus_is_downloaded_by_name_and_only_once(asked: list[str], tmp_path: Path, name: str) -> None:
    for out in ("first", "again"):
        fetch(CorpusSettings(name), tmp_path / "downloads", tmp_path / out)
        assert (tmp_path / out / "00" / "utterances.jsonl").read_text() == LINES
        assert (tmp_path / out / "00").resolve() == tmp_path / "downloads" / name
    assert len([path for path in asked if path.endswith(".zip")]) == 1
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [name]


def test_of_several_names_the_finished_ones_stay_when_one_fails(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cut-off-corpus could not be downloaded"):
        fetch(CorpusSettings("tiny-corpus,cut-off-corpus,other-corpus"), tmp_path / "downloads", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    zipped(tmp_path / "served" / "cut-off-corpus.zip", "")
    fetch(CorpusSettings("tiny-corpus,cut-off-corpus,other-corpus"), tmp_path / "downloads", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/utterances.jsonl"))) == 3
    assert asked.count("tiny-corpus.zip") == 1
    assert asked.count("cut-off-corpus.zip") == 2


def test_what_convokit_remembers_of_a_download_since_deleted_does_not_mislead(asked: list[str], tmp_path: Path) -> None:
    for home in ("one", "two", "one"):
        folder = download.download("tiny-corpus", tmp_path / home)
        assert folder == tmp_path / home / "tiny-corpus"
        (folder / "utterances.jsonl").unlink()
        (folder / "index.json").unlink()
        folder.rmdir()


def test_it_is_said_how_much_of_how_much_has_come(asked: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    zipped(tmp_path / "served" / "tiny-corpus.zip", "", LINES * 20_000)
    size = (tmp_path / "served" / "tiny-corpus.zip").stat().st_size / 1e6
    download.download("tiny-corpus", tmp_path / "downloads", said.append)
    assert said == [f"tiny-corpus: {size:,.1f} of {size:,.1f} MB downloaded"]


def test_only_what_a_killed_download_left_long_ago_is_removed(asked: list[str], tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    for name in (".tiny-corpus-killed", ".tiny-corpus-running"):
        (downloads / name).mkdir(parents=True)
        (downloads / name / "tiny-corpus.zip").write_bytes(b"PK")
    for path in (downloads / ".tiny-corpus-killed" / "tiny-corpus.zip", downloads / ".tiny-corpus-killed"):
        utime(path, (0, 0))
    download.download("tiny-corpus", downloads)
    assert sorted(path.name for path in downloads.iterdir()) == [".tiny-corpus-running", "tiny-corpus"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no-such-corpus", "ConvoKit knows no corpus"),
        ("broken-corpus", "could not be downloaded"),
        ("empty-corpus", "holds 0 files named utterances"),
    ],
)
def test_a_name_that_gives_no_corpus_is_refused(asked: list[str], tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        fetch(CorpusSettings(name), tmp_path / "downloads", tmp_path / "corpus")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_without_a_network_a_corpus_by_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(PipelineError, match="could not be downloaded"):
        fetch(CorpusSettings("reddit-corpus-small"), tmp_path / "downloads", tmp_path / "corpus")
