"""What the sensor sees of a corpus, and when it asks for a rebuild: once for every change, and never for none."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.artefacts import Artefact, Store
from adc_pipeline.corpus import download
from adc_pipeline.corpus import watch as watching
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import corpus_state
from adc_pipeline.corpus.watch import Watch, check_for_change

LINE = '{"id": "r", "body": "yes", "link_id": "t3_r", "parent_id": "t3_r", "created_utc": 1}\n'


class Watcher:
    """A sensor with its cursor; `looks` gives at which of a number of looks a run is asked for, by key."""

    def __init__(self, settings: CorpusSettings, home: Path) -> None:
        self.settings, self.store, self.cursor, self.said = settings, Store(home), "", ""

    def looks(self, number: int = 4) -> list[str]:
        keys = []
        for _ in range(number):
            found = check_for_change(Watch.from_cursor(self.cursor), self.settings, self.store)
            self.cursor, self.said = found.watch.cursor(), found.skip
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
    """One that has asked for the first run."""
    made = Watcher(CorpusSettings(str(dumps)), tmp_path / "home")
    assert len(made.looks()) == 1
    return made


def test_nothing_new_asks_for_nothing(watcher: Watcher) -> None:
    assert watcher.looks(10) == []
    assert watcher.said.endswith("has not changed.")


@pytest.mark.parametrize("change", ["a new dump", "another length", "another time", "one fewer"])
def test_a_change_asks_for_one_run(watcher: Watcher, dumps: Path, change: str) -> None:
    file = dumps / "RC_2018-09.jsonl"
    match change:
        case "a new dump":
            (dumps / "deeper").mkdir()
            (dumps / "deeper" / "RC_2018-10.jsonl").write_text(LINE)
        case "another length":
            file.write_text(LINE * 2)
        case "another time":
            # Backwards, as after the clock was set.
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


def test_a_dump_that_still_grows_asks_for_nothing_yet(watcher: Watcher, dumps: Path) -> None:
    for length in range(2, 6):
        (dumps / "RC_2018-09.jsonl").write_text(LINE * length)
        assert watcher.looks(1) == []
        assert "the next tick" in watcher.said
    assert len(watcher.looks()) == 1


def test_a_corpus_that_is_gone_is_a_reason_to_wait_and_not_an_error(watcher: Watcher, dumps: Path) -> None:
    moved = dumps.rename(dumps.with_name("elsewhere"))
    assert watcher.looks() == []
    assert "does not exist" in watcher.said
    moved.rename(dumps)
    assert watcher.looks() == []


def test_what_was_taken_in_already_asks_for_nothing(dumps: Path, tmp_path: Path) -> None:
    settings = CorpusSettings(str(dumps))
    watcher = Watcher(settings, tmp_path / "home")
    with watcher.store.aside("raw_corpus") as folder:
        seen = corpus_state(settings, tmp_path / "home" / "downloads")
        (folder / "making.json").write_text(json.dumps({"run": "1", "address": "", "outside": seen}))
        watcher.store.put(folder, Artefact("raw_corpus", folder, "d", settings=json.loads(json.dumps(vars(settings)))))
    assert watcher.looks() == []
    (dumps / "RC_2018-10.jsonl").write_text(LINE)
    assert len(watcher.looks()) == 1


def test_other_settings_ask_for_a_run(watcher: Watcher) -> None:
    watcher.settings = CorpusSettings("sample", sample_seed=1)
    assert len(watcher.looks()) == 1


def test_a_newer_version_of_convokits_asks_for_a_run_and_silence_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: dict[str, Any] = {"version": 1}
    monkeypatch.setattr(watching, "published_versions", lambda names: dict.fromkeys(names, published["version"]))
    watcher = Watcher(CorpusSettings("some-corpus"), tmp_path / "home")
    assert len(watcher.looks()) == 1
    published["version"] = None
    assert watcher.looks() == []
    assert "ConvoKit did not say which version of some-corpus" in watcher.said
    published["version"] = 1
    assert watcher.looks() == []
    published["version"] = 2
    assert len(watcher.looks()) == 1


def test_without_a_network_no_version_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert download.published_versions(["reddit-corpus-small"]) == {"reddit-corpus-small": None}


def test_a_cursor_of_another_release_begins_anew() -> None:
    assert Watch.from_cursor('{"seen": 1}') == Watch.from_cursor("not JSON") == Watch.from_cursor(None) == Watch()
    kept = Watch("a", "b", "c", {"x": 1, "y": None})
    assert Watch.from_cursor(kept.cursor()) == kept


def test_a_corpus_in_convokits_format_is_watched_by_what_is_read_of_it(dumps: Path, tmp_path: Path) -> None:
    shutil.copy(dumps / "RC_2018-09.jsonl", dumps / "utterances.jsonl")
    seen = corpus_state(CorpusSettings(str(dumps)), tmp_path)
    assert [Path(path).name for path in seen] == ["utterances.jsonl"]
