"""The watch on a corpus requests one run for every change, and none without a change."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus import watch as watching
from adc_pipeline.corpus.files import download
from adc_pipeline.corpus.opening.recorded_files import record_files
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import corpus_state, fetch
from adc_pipeline.corpus.watch import Watch, check_for_change

LINE = '{"id": "r", "body": "yes", "link_id": "t3_r", "parent_id": "t3_r", "created_utc": 1}\n'


class Watcher:
    """A sensor with its cursor; `looks` returns at which of a number of ticks a run is requested, by key."""

    def __init__(self, settings: CorpusSettings, home: Path) -> None:
        self.settings, self.store, self.cursor, self.skip_reason = settings, Store(home), "", ""

    def looks(self, number: int = 4) -> list[str]:
        keys = []
        for _ in range(number):
            found = check_for_change(Watch.from_cursor(self.cursor), self.settings, self.store)
            self.cursor, self.skip_reason = found.watch.cursor(), found.skip
            if not found.skip:
                keys.append(found.watch.key)
        return keys


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps" / "RC_2018-09.jsonl").write_text(LINE)
    (tmp_path / "dumps" / "notes.txt").write_text("no part of the corpus")
    return tmp_path / "dumps"


@pytest.fixture
def watcher(dumps: Path, tmp_path: Path) -> Watcher:
    """Return a watcher that has looked before: the first look only remembers, whatever has been built."""
    made = Watcher(CorpusSettings(str(dumps)), tmp_path / "home")
    assert made.looks(1) == []
    assert "a change from now on starts a run" in made.skip_reason
    return made


def test_a_disk_that_is_not_mounted_is_no_change(watcher: Watcher, dumps: Path, tmp_path: Path) -> None:
    """What is left then is an empty folder."""
    dumps.rename(tmp_path / "unmounted")
    dumps.mkdir()
    assert watcher.looks() == []
    assert f"The corpus {dumps} holds no file that is read" in watcher.skip_reason
    dumps.rmdir()
    (tmp_path / "unmounted").rename(dumps)
    assert watcher.looks() == []
    assert watcher.skip_reason.endswith("has not changed.")


def test_an_unchanged_corpus_requests_no_run(watcher: Watcher) -> None:
    assert watcher.looks(10) == []
    assert watcher.skip_reason.endswith("has not changed.")


@pytest.mark.parametrize("change", ["a new dump", "another length", "another time", "one fewer"])
def test_a_change_requests_one_run(watcher: Watcher, dumps: Path, change: str) -> None:
    file = dumps / "RC_2018-09.jsonl"
    match change:
        case "a new dump":
            (dumps / "deeper").mkdir()
            (dumps / "deeper" / "RC_2018-10.jsonl").write_text(LINE)
        case "another length":
            file.write_text(LINE * 2)
        case "another time":
            # Backwards, as after a change of the clock.
            os.utime(file, (1, 1))
        case "one fewer":
            file.rename(dumps / "RC_2018-08.jsonl")
    assert len(watcher.looks()) == 1
    (dumps / "notes.txt").write_text("something else")
    assert watcher.looks() == []


def test_a_change_back_is_a_change(watcher: Watcher, dumps: Path) -> None:
    file = dumps / "RC_2018-09.jsonl"
    stat = file.stat()
    keys = []
    for content in (LINE * 2, LINE, LINE * 2):
        file.write_text(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        keys += watcher.looks()
    assert len(set(keys)) == 3, "Dagster starts no second run by the same key"


def test_a_growing_dump_requests_no_run_yet(watcher: Watcher, dumps: Path) -> None:
    for length in range(2, 6):
        (dumps / "RC_2018-09.jsonl").write_text(LINE * length)
        assert watcher.looks(1) == []
        assert "the next tick" in watcher.skip_reason
    assert len(watcher.looks()) == 1


def test_a_missing_corpus_is_a_reason_to_skip_and_not_an_error(watcher: Watcher, dumps: Path) -> None:
    moved = dumps.rename(dumps.with_name("elsewhere"))
    assert watcher.looks() == []
    assert "does not exist" in watcher.skip_reason
    moved.rename(dumps)
    assert watcher.looks() == []


def test_the_corpus_of_the_current_artefact_requests_no_run(dumps: Path, tmp_path: Path) -> None:
    settings = CorpusSettings(str(dumps))
    watcher = Watcher(settings, tmp_path / "home")
    with watcher.store.aside("raw_corpus") as folder:
        seen = corpus_state(settings, tmp_path / "home" / "downloads")
        (folder / "making.json").write_text(json.dumps({"run": "1", "address": "", "outside": seen}))
        watcher.store.put(folder, Artefact("raw_corpus", folder, "d", settings=json.loads(json.dumps(vars(settings)))))
    assert watcher.looks() == []
    (dumps / "RC_2018-10.jsonl").write_text(LINE)
    assert len(watcher.looks()) == 1


def put_corpus(store: Store, settings: CorpusSettings) -> Artefact:
    """Put the raw corpus of these settings in place, as its asset does."""
    with store.aside("raw_corpus") as folder:
        fetch(settings, {}, folder / "corpus")
        digest = record_files(folder / "corpus", folder / "files.json")
        seen = corpus_state(settings, store.home / "downloads")
        (folder / "making.json").write_text(json.dumps({"run": "1", "address": "", "outside": seen}))
        recorded = json.loads(json.dumps(vars(settings)))
        return store.put(folder, Artefact("raw_corpus", folder, digest, settings=recorded, files=scan(folder)))


@pytest.mark.parametrize("packing", ["plain", "zip", "tar.gz"])
@pytest.mark.parametrize(
    ("change", "asked"),
    [("touch", False), ("mode", False), ("written again", False), ("same length", True), ("too large", True)],
)
def test_a_file_whose_content_is_that_of_the_current_artefact_requests_no_run(
    dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, asked: bool, packing: str
) -> None:
    file = dumps / "RC_2018-09.jsonl"
    if packing != "plain":
        (dumps / "notes.txt").unlink()
        archive = {"zip": "zip", "tar.gz": "gztar"}[packing]
        file = Path(shutil.make_archive(str(tmp_path / "RC_2018-09"), archive, dumps))
        shutil.rmtree(dumps)
        dumps.mkdir()
        file = Path(shutil.move(file, dumps))
    settings = CorpusSettings(str(dumps))
    watcher = Watcher(settings, tmp_path / "home")
    put_corpus(watcher.store, settings)
    assert watcher.looks() == []
    content = file.read_bytes()
    match change:
        case "touch":
            os.utime(file)
        case "mode":
            file.chmod(0o600)
        case "written again":
            file.unlink()
            file.write_bytes(content)
        case "same length":
            file.write_bytes(content[:-1] + b" ")
        case "too large":
            monkeypatch.setattr(watching, "MOST_COMPARED", 1)
            os.utime(file)
    assert len(watcher.looks()) == asked


def test_a_damaged_record_of_the_current_artefact_requests_a_run(dumps: Path, tmp_path: Path) -> None:
    settings = CorpusSettings(str(dumps))
    watcher = Watcher(settings, tmp_path / "home")
    made = put_corpus(watcher.store, settings)
    assert watcher.looks() == []
    (made.path / "files.json").write_text('{"00": 5}')
    os.utime(dumps / "RC_2018-09.jsonl")
    assert len(watcher.looks()) == 1


def test_changed_settings_request_a_run(watcher: Watcher) -> None:
    watcher.settings = CorpusSettings("sample", sample_seed=1)
    assert len(watcher.looks()) == 1


def test_a_new_convokit_version_requests_a_run_and_an_unknown_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: dict[str, Any] = {"version": 1}
    monkeypatch.setattr(watching, "published_versions", lambda names: dict.fromkeys(names, published["version"]))
    watcher = Watcher(CorpusSettings("some-corpus"), tmp_path / "home")
    assert watcher.looks() == []
    published["version"] = None
    assert watcher.looks() == []
    assert "ConvoKit did not say which version of some-corpus" in watcher.skip_reason
    published["version"] = 1
    assert watcher.looks() == []
    published["version"] = 2
    assert len(watcher.looks()) == 1


def test_without_a_network_the_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert download.published_versions(["reddit-corpus-small"]) == {"reddit-corpus-small": None}


def test_a_cursor_of_another_release_is_reset() -> None:
    assert Watch.from_cursor('{"seen": 1}') == Watch.from_cursor("not JSON") == Watch.from_cursor(None) == Watch()
    kept = Watch("a", "b", "c", {"x": 1, "y": None})
    assert Watch.from_cursor(kept.cursor()) == kept


def test_only_the_files_that_are_read_of_a_convokit_corpus_are_watched(dumps: Path, tmp_path: Path) -> None:
    shutil.copy(dumps / "RC_2018-09.jsonl", dumps / "utterances.jsonl")
    seen = corpus_state(CorpusSettings(str(dumps)), tmp_path)
    assert [Path(path).name for path in seen] == ["utterances.jsonl"]
