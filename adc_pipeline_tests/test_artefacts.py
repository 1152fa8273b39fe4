"""Artefacts are whole or not there, and named by their content."""

import contextlib
import hashlib
import threading
from pathlib import Path

import pytest

from adc_pipeline.core.artefacts import Artefact, Store, folder_digest
from adc_pipeline.core.errors import PipelineError


def make(store: Store, content: str, name: str = "utterances") -> Artefact:
    with store.aside(name) as folder:
        (folder / "data.txt").write_text(content)
        return store.put(folder, Artefact(name, folder, folder_digest(folder), counts={"lines": 1}))


def test_what_was_put_is_found_in_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "a")
    assert store.current("utterances") == made
    assert store.version("utterances", made.digest) == made
    assert (store.place("utterances") / "data.txt").read_text() == "a"


def test_a_new_version_replaces_the_old_one_and_the_old_one_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = make(store, "a"), make(store, "b")
    assert (store.place("utterances") / "data.txt").read_text() == "b"
    assert (store.version("utterances", old.digest).path / "data.txt").read_text() == "a"
    assert old.digest != new.digest


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert make(store, "a").digest == make(store, "a").digest
    assert len(list((tmp_path / "store" / "utterances").iterdir())) == 1


def test_nothing_is_in_place_after_a_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with contextlib.suppress(RuntimeError), store.aside("utterances") as folder:
        (folder / "data.txt").write_text("half")
        raise RuntimeError
    with pytest.raises(PipelineError, match="materialize the asset utterances first"):
        store.current("utterances")
    assert list((tmp_path / "store" / "utterances").iterdir()) == []


def test_what_a_killed_run_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left = tmp_path / "store" / "utterances" / ".making-1-dead"
    left.mkdir(parents=True)
    with store.aside("utterances") as first:
        assert not left.exists()
        with store.aside("utterances") as second:
            assert first.exists()
            assert second.exists()


def test_the_digest_can_be_recomputed_with_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("2")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_text("1")
    (tmp_path / "README.md").write_text("not part of the content")
    lines = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in (("a/c", b"1"), ("b", b"2")))
    assert folder_digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()[:32]


def test_a_home_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match=r"ADC_HOME = .* cannot be written to"):
        Store(tmp_path / "file").check_writable()


def test_a_full_disk_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="make room"):
        Store(tmp_path).check_writable(free=1 << 60)


def test_the_same_content_as_a_link_and_as_a_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data.txt").write_text("a")
    for linked in (True, False, True):
        with store.aside("raw_corpus") as folder:
            if linked:
                (folder / "corpus").symlink_to(outside)
            else:
                (folder / "corpus").mkdir()
                (folder / "corpus" / "data.txt").write_text("a")
                (folder / "corpus" / "README.md").write_text("of no account")
            made = store.put(folder, Artefact("raw_corpus", folder, "0" * 32))
        assert (made.path / "corpus").is_symlink() == linked
        assert (made.path / "corpus" / "data.txt").read_text() == "a"


def test_links_at_any_depth_lead_where_the_newest_making_found_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "data.txt").write_text("a")
        with store.aside("raw_corpus") as folder:
            (folder / "corpus").mkdir()
            (folder / "corpus" / "00").symlink_to(tmp_path / place)
            made = store.put(folder, Artefact("raw_corpus", folder, "0" * 32))
        assert (made.path / "corpus" / "00").readlink() == tmp_path / place


def test_a_reader_finds_the_artefact_at_every_moment_of_its_being_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made, over = make(store, "a"), threading.Event()
    wrong: list[Exception] = []

    def read() -> None:
        while not over.is_set():
            try:
                assert store.current("utterances") == made
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        make(store, "a")
    over.set()
    reader.join()
    assert wrong == []
