"""Artefacts are whole or not there, and named by their content."""

import contextlib
import errno
import hashlib
import os
import re
import resource
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from adc_pipeline.core.atomic import temporary
from adc_pipeline.core.errors import PipelineError, limit_of_system
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import added_files, content_digest, damage, folder_digest, refuse_added, scan
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.store.links import MANY_FILES, point, sync_files
from adc_pipeline.core.store.manifests import MAKING, MANIFEST, Artefact, write_making
from adc_pipeline.defs.compact_storage import Events
from adc_pipeline.defs.history import AtomicSqliteStorage
from adc_pipeline.tracking import database


def make(store: Store, content: str, name: str = "utterances") -> Artefact:
    with store.aside(name) as folder:
        (folder / "data.txt").write_text(content)
        made = Artefact(name, folder, folder_digest(folder), counts={"lines": 1}, place=f"places/{name}")
        return store.put(folder, replace(made, files=scan(folder)))


def versions(home: Path) -> list[Path]:
    return [path for path in (home / "store" / "utterances").iterdir() if not path.is_symlink()]


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


def test_what_a_killed_writer_left_in_a_version_is_no_content_and_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "a")
    left = [temporary(made.path / name) for name in (MAKING, MANIFEST, "registered.json")]
    left.append(temporary(store.place("utterances")))
    assert temporary(made.path / MAKING) != left[0]
    for path in left[:3]:
        path.write_text("{")
    left[3].symlink_to("nowhere")
    assert folder_digest(made.path) == made.digest
    assert store.current("utterances") == made
    assert not added_files(made)
    # One that is young may be another machine's that writes now.
    write_making(made, {})
    assert left[0].exists()
    for path in left:
        os.utime(path, (0, 0), follow_symlinks=False)
    write_making(made, {})
    make(store, "a")
    assert not os.path.lexists(left[0])
    assert not os.path.lexists(left[3])


def test_a_link_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="Input/output"):
        point(tmp_path / "link", tmp_path / "target")
    assert not list(tmp_path.iterdir())


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert make(store, "a").digest == make(store, "a").digest
    assert [path.name for path in versions(tmp_path)] == [make(store, "a").digest]


def test_nothing_is_in_place_after_a_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with contextlib.suppress(RuntimeError), store.aside("utterances") as folder:
        (folder / "data.txt").write_text("half")
        raise RuntimeError
    with pytest.raises(PipelineError, match="materialize the asset utterances first"):
        store.current("utterances")
    assert list((tmp_path / "store" / "utterances").iterdir()) == []


def test_a_place_leads_to_the_current_version_and_survives_a_move(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    for content in ("a", "b"):
        make(store, content)
        assert (tmp_path / "home" / "places" / "utterances" / "data.txt").read_text() == content
    (tmp_path / "home").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "places" / "utterances" / "data.txt").read_text() == "b"
    assert Store(tmp_path / "moved").current("utterances").counts == {"lines": 1}


def test_a_lost_or_altered_file_is_noticed_and_repaired_by_making_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "a")
    assert damage(made) == []
    file = made.path / "data.txt"
    file.write_text("b")
    assert damage(made) == ["data.txt"]
    assert make(store, "a").digest == made.digest
    assert file.read_text() == "a"
    assert damage(store.current("utterances")) == []
    file.unlink()
    assert damage(made) == ["data.txt"]
    make(store, "a")
    assert file.read_text() == "a"


def test_a_copy_whose_times_differ_is_intact(tmp_path: Path) -> None:
    made = make(Store(tmp_path), "a")
    os.utime(made.path / "data.txt", (1, 1))
    assert damage(made) == []


@pytest.mark.parametrize("name", ["more.txt", "data/train-00001-of-00002.parquet"])
def test_a_file_that_was_added_is_named(name: str, tmp_path: Path) -> None:
    made = make(Store(tmp_path), "a")
    (made.path / ".DS_Store").write_text("hidden")
    (made.path / "README.md").write_text("A card that was written after the artefact.")
    refuse_added(replace(made, unhashed=("README.md",)))
    (made.path / "README.md").unlink()
    (made.path / name).parent.mkdir(exist_ok=True)
    (made.path / name).write_text("b")
    assert damage(made) == []
    with pytest.raises(PipelineError, match=rf"do not belong to utterances \({re.escape(name)}\).*move them"):
        refuse_added(made)


def test_a_link_to_another_artefact_counts_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "a")
    made, other = make(store, "a"), make(store, "b", "ranked_replies")
    store.place("utterances").unlink()
    store.place("utterances").symlink_to(other.path)
    with pytest.raises(PipelineError, match="materialize the asset utterances again"):
        store.current("utterances")
    assert make(store, "a") == made == store.current("utterances")


def test_a_link_to_itself_counts_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "a")
    store.place("utterances").unlink()
    store.place("utterances").symlink_to(store.place("utterances").name)
    assert not store.is_current(made)
    with pytest.raises(PipelineError, match="cannot be read"):
        store.current("utterances")
    assert make(store, "a") == made


@pytest.mark.parametrize("content", ["", "{", "[]", '{"unknown": 1}'])
def test_a_manifest_that_cannot_be_read_counts_as_absent(content: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "a")
    (made.path / "artefact.json").write_text(content)
    with pytest.raises(PipelineError, match="materialize the asset utterances again"):
        store.current("utterances")
    assert make(store, "a") == store.current("utterances")


def test_inputs_are_the_versions_that_fit_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = make(store, "old", "utterances")
    with store.aside("top_2") as folder:
        dataset = store.put(folder, Artefact("top_2", folder, "0" * 32, inputs={"utterances": old.digest}))
    new = make(store, "new", "utterances")
    assert store.inputs(["top_2", "utterances"]) == {"top_2": dataset, "utterances": old}
    assert store.inputs(["utterances"]) == {"utterances": new}


def test_what_a_killed_run_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left = tmp_path / "store" / "utterances" / ".making-1-dead"
    left.mkdir(parents=True)
    with store.aside("utterances") as first:
        assert not left.exists()
        with store.aside("utterances") as second:
            assert first.exists()
            assert second.exists()
            # Also by the job `prune` and `adc repair`, of artefacts that nothing makes any more.
            (other := tmp_path / "store" / "study_cell" / "a" / ".making-removed-0123").mkdir(parents=True)
            (half := tmp_path / "work" / "study_cell" / "a" / "0123.removed.partial" / "shard").mkdir(parents=True)
            (work := tmp_path / "work" / "utterances" / "0123" / "0.partial").mkdir(parents=True)
            store.remove_left()
            assert not other.exists()
            assert not half.parent.exists()
            assert work.exists()
            assert first.exists()
            assert second.exists()


def test_the_digest_can_be_recomputed_with_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("2")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_text("1")
    (tmp_path / "README.md").write_text("describes the making")
    lines = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in (("a/c", b"1"), ("b", b"2")))
    digest = hashlib.sha256(lines.encode()).hexdigest()[:32]
    assert content_digest(scan(tmp_path), {"README.md"}) == digest
    # The manifest says so, too.
    (tmp_path / "artefact.json").write_text('{"unhashed": ["README.md"]}')
    assert folder_digest(tmp_path) == digest


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("file", "is a file and no folder: name a folder"),
        ("fifo", "is a FIFO and no folder"),
        ("socket", "is a socket and no folder"),
        ("device", "is a device and no folder"),
        ("loop", "is a link that leads back to itself"),
        ("dangling", "is a link to nowhere, which does not exist"),
        ("below a file", r"cannot be written to \(Not a directory\)"),
        ("below a loop", r"cannot be written to \(Too many levels of symbolic links\)"),
    ],
)
def test_a_home_that_cannot_be_a_folder_is_refused_in_one_sentence(tmp_path: Path, kind: str, what: str) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(tmp_path):
        bound.bind("socket")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    below = {"below a file": "file/home", "below a loop": "loop/home", "device": "/dev/null"}
    with pytest.raises(PipelineError, match=rf"^ADC_HOME = .* {what}.*\.$"):
        check_home(tmp_path / below.get(kind, kind))


def test_a_home_of_a_user_who_does_not_exist_is_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADC_HOME", "~nobody-of-this-name/home")
    monkeypatch.chdir(tmp_path)
    assert Store.from_environment().home == tmp_path / "~nobody-of-this-name/home"


@pytest.mark.parametrize("name", ["a*b", "a?b", "[a]", "a\\b", "a%20b", "a\nb", "a\x1bb", "a\udcff"])
def test_a_home_whose_path_a_library_cannot_have_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="cannot have in a path") as refused:
        check_home(tmp_path / name)
    assert str(refused.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_an_address_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADC_HOME", "https://user:word@host/home")
    with pytest.raises(PipelineError, match=r"^ADC_HOME is an address: point ADC_HOME to a folder\.$"):
        Store.from_environment()


@pytest.mark.parametrize("name", ["a b", "score=3", "100%", "é#&;'\"$(x)"])
def test_a_home_with_an_unusual_path_is_accepted(tmp_path: Path, name: str) -> None:
    check_home(tmp_path / name)


def test_a_full_disk_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="make room"):
        check_home(tmp_path, free=1 << 60)


def test_a_limit_on_the_size_of_files_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200 << 10, resource.RLIM_INFINITY))
    with pytest.raises(PipelineError, match=r"files of at most 200 KiB \(`ulimit -f`\), and at least 262144"):
        check_home(tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (MemoryError(), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOENT, "No such file or directory"), ""),
        (RuntimeError("another"), ""),
    ],
)
def test_what_a_limit_on_the_process_causes_is_said_in_a_sentence(error: Exception, limit: str) -> None:
    sentence = limit_of_system(error)
    assert bool(sentence) == bool(limit)
    assert limit in sentence


def test_a_home_whose_databases_sqlite_could_not_open_is_refused(tmp_path: Path) -> None:
    long = tmp_path / "/".join(["long"] * 80)
    with pytest.raises(PipelineError, match="longer than 400 bytes"):
        check_home(long)
    assert not (tmp_path / "long").exists()


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


@pytest.mark.slow
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


def test_many_small_files_reach_the_disk_by_one_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[str] = []
    monkeypatch.setattr("os.sync", lambda: flushes.append("all"))
    monkeypatch.setattr("os.fsync", lambda handle: flushes.append("one"))
    for number in range(3):
        (tmp_path / str(number)).touch()
    sync_files(tmp_path)
    assert flushes == ["one"] * 3
    for number in range(MANY_FILES):
        (tmp_path / str(number)).touch()
    sync_files(tmp_path)
    assert flushes == ["one"] * 3 + ["all"]


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_home_may_be_shared_by_those_whom_the_umask_lets(tmp_path: Path, umask: int, mode: int) -> None:
    """safetensors keeps its files to this user, and SQLite lets nobody else write."""
    before = os.umask(umask)
    try:
        store = Store(tmp_path)
        with store.aside("thing") as folder:
            (folder / "model.safetensors").touch(0o600)
            (folder / "model.safetensors").write_text("weights")
            made = store.put(folder, Artefact("thing", folder, "d1", files=scan(folder)))
        database.create(tmp_path / "new.db")
        database.replace(tmp_path / "mlflow.db", tmp_path / "new.db")
        AtomicSqliteStorage.from_local(str(tmp_path / "dagster")).dispose()
        Events(str(tmp_path / "dagster" / "history" / "runs")).get_logs_for_run("one")
    finally:
        os.umask(before)
    databases = [tmp_path / "mlflow.db", *(tmp_path / "dagster").rglob("*.db")]
    assert len(databases) == 5
    for path in (made.path / "model.safetensors", *databases):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
