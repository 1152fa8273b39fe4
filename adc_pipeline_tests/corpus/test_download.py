"""Corpora of ConvoKit's collection by name: whole or not at all, and never fetched twice."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import utime
from pathlib import Path
from threading import Thread

import pytest

from adc_pipeline.core.errors import PipelineError, UnreachableError
from adc_pipeline.core.store.links import locked
from adc_pipeline.corpus.files import download
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import download_all, fetch

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
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        config = {
            "cur_version": dict.fromkeys((*NAMES, "subreddit"), 1),
            "DatasetURLs": {name: f"{address}/{name}.zip" for name in NAMES},
            "ModelURLS": {},
        }
        (served / "config.json").write_text(json.dumps(config))
        monkeypatch.setattr(download, "CONFIGURATION", f"{address}/config.json")
        monkeypatch.setattr(convokit.util, "get_subreddit_info", lambda _: f"{address}/subreddit.corpus.zip")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield requested
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-corpus", "other-corpus", "subreddit-Cornell"])
def test_a_corpus_is_downloaded_by_name_and_only_once(asked: list[str], tmp_path: Path, name: str) -> None:
    for out in ("first", "again"):
        settings = CorpusSettings(name)
        fetch(settings, download_all(settings, tmp_path / "downloads"), tmp_path / out)
        assert (tmp_path / out / "00" / "utterances.jsonl").read_text() == LINES
        assert (tmp_path / out / "00").resolve() == tmp_path / "downloads" / name
    assert len([path for path in asked if path.endswith(".zip")]) == 1
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [name]


@pytest.mark.slow
def test_of_several_names_the_finished_ones_stay_when_one_fails(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cut-off-corpus could not be downloaded"):
        download_all(CorpusSettings("tiny-corpus,cut-off-corpus,other-corpus"), tmp_path / "downloads")
    zipped(tmp_path / "served" / "cut-off-corpus.zip", "")
    found = download_all(CorpusSettings("tiny-corpus,cut-off-corpus,other-corpus"), tmp_path / "downloads")
    assert len([folder for folder in found.values() if (folder / "utterances.jsonl").is_file()]) == 3
    assert asked.count("tiny-corpus.zip") == 1
    assert asked.count("cut-off-corpus.zip") == 2


def test_what_convokit_remembers_of_a_download_since_deleted_does_not_mislead(asked: list[str], tmp_path: Path) -> None:
    for home in ("one", "two", "one"):
        folder = download.download("tiny-corpus", tmp_path / home)
        assert folder == tmp_path / home / "tiny-corpus"
        shutil.rmtree(folder)


def test_it_is_said_how_much_of_how_much_has_come(asked: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    zipped(tmp_path / "served" / "tiny-corpus.zip", "", LINES * 20_000)
    size = (tmp_path / "served" / "tiny-corpus.zip").stat().st_size / 1e6
    download.download("tiny-corpus", tmp_path / "downloads", said.append)
    assert said == [f"tiny-corpus: {size:,.1f} of {size:,.1f} MB downloaded"]


def test_what_a_killed_download_left_is_removed_and_what_is_being_written_is_not(
    asked: list[str], tmp_path: Path
) -> None:
    downloads = tmp_path / "downloads"
    for name in (".tiny-corpus-killed", ".tiny-corpus-running"):
        (downloads / name).mkdir(parents=True)
        (downloads / name / "tiny-corpus.zip").write_bytes(b"PK")
        # However long ago, or ahead of us, the clock says that was.
        utime(downloads / name, (0, 0))
    with locked(downloads / ".tiny-corpus-running"):
        download.download("tiny-corpus", downloads)
    assert sorted(path.name for path in downloads.iterdir()) == [".tiny-corpus-running", "tiny-corpus"]


def publish(served: Path, version: int) -> None:
    config = json.loads((served / "config.json").read_text())
    config["cur_version"] = dict.fromkeys((*NAMES, "subreddit"), version)
    (served / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["tiny-corpus", "subreddit-Cornell"])
def test_a_newer_version_is_fetched_beside_the_one_that_is_here(asked: list[str], tmp_path: Path, name: str) -> None:
    downloads, served = tmp_path / "downloads", tmp_path / "served"
    first = download.download(name, downloads)
    zipped(served / ("tiny-corpus.zip" if name == "tiny-corpus" else "subreddit.corpus.zip"), "", LINES * 2)
    assert download.download(name, downloads) == first, "the same version"
    publish(served, 2)
    newer = download.download(name, downloads)
    assert (newer / "utterances.jsonl").read_text() == LINES * 2
    assert (first / "utterances.jsonl").read_text() == LINES, "what was made of it still links there"
    assert download.downloaded_version(name, downloads) == 2
    (served / "config.json").write_text("not JSON: as without a network")
    assert download.download(name, downloads) == newer


def test_a_download_from_before_versions_were_noted_is_taken_for_what_is_published(
    asked: list[str], tmp_path: Path
) -> None:
    folder = download.download("tiny-corpus", tmp_path / "downloads")
    (folder / ".version").unlink()
    assert download.downloaded_version("tiny-corpus", tmp_path / "downloads") is None
    assert download.download("tiny-corpus", tmp_path / "downloads") == folder
    assert download.downloaded_version("tiny-corpus", tmp_path / "downloads") == 1
    assert len([path for path in asked if path.endswith(".zip")]) == 1


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
        download.download(name, tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_without_a_network_a_corpus_by_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    # Worth another attempt in a while, unlike a name that ConvoKit does not know.
    with pytest.raises(UnreachableError, match="could not be downloaded"):
        download.download("reddit-corpus-small", tmp_path / "downloads")
