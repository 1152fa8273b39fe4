"""What the system refuses in the middle of a step is named with its cause, whatever the library's error says."""

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from adc_pipeline.cli.run import printed_to
from adc_pipeline.core import refused_writes
from adc_pipeline.core.errors import PipelineError, is_disk_full, limit_of_system
from adc_pipeline.core.refused_writes import answer_to_write, reason, refused_write
from adc_pipeline.tracking import database

# As they are raised by DuckDB, PyArrow, safetensors, and by PyTorch and NumPy, which do not say the cause.
TOO_LARGE = [
    RuntimeError('IO Error: Could not write file "/adc/spill/duckdb_temp_1.tmp": File too large'),
    OSError(errno.EFBIG, "Error writing bytes to file. Detail: [errno 27] File too large"),
    ValueError("Error while serializing: I/O error: File too large (os error 27)"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    OSError("200000 requested and 37484 written"),
]


@pytest.fixture
def small_files() -> Iterator[int]:
    """A limit on the size of files (`ulimit -f`) above that of the probe."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    yield 1 << 18
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("error", TOO_LARGE, ids=lambda error: str(error)[:20])
def test_a_limit_on_the_size_of_files_is_named(error: Exception, small_files: int, tmp_path: Path) -> None:
    number = refused_write(error, tmp_path)
    assert number == errno.EFBIG
    assert reason(number) == "(File too large): raise the limit on the size of files (`ulimit -f`)"
    assert not list(tmp_path.iterdir())


def test_without_a_limit_an_error_that_does_not_say_its_cause_has_none(tmp_path: Path) -> None:
    assert [refused_write(error, tmp_path) for error in TOO_LARGE[3:]] == [0, 0]
    assert refused_write(ValueError("unexpected pos"), tmp_path) == 0


def test_more_memory_and_threads_are_no_remedy_for_large_files() -> None:
    sentence = limit_of_system(TOO_LARGE[0])
    assert sentence.endswith("(`ulimit -f`) causes: raise the limit, or run it without.")
    assert "`threads`" in limit_of_system(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (errno.EROFS, r"cannot be written to \(Read-only file system\): mount the disk for writing"),
        (errno.ENOSPC, r"cannot be written to \(No space left on device\): make room"),
        (errno.EDQUOT, r"cannot be written to \(Disk quota exceeded\): make room, or have this user's quota raised"),
        (0, "cannot be opened: check that it is a file that this user may write to"),
        (errno.EACCES, "cannot be opened: check that it is a file that this user may write to"),
    ],
)
def test_a_disk_that_refuses_sqlite_is_not_called_a_matter_of_rights(
    answer: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    monkeypatch.setattr(database, "answer_to_write", lambda folder: answer)
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(database.sentence(tmp_path / "mlflow.db", error))


def test_the_answer_to_a_write_is_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_files: int
) -> None:
    assert answer_to_write(tmp_path / "missing") == errno.ENOENT
    monkeypatch.setattr(refused_writes, "PROBE", small_files + 1)
    assert answer_to_write(tmp_path) == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_log_that_the_system_does_not_take_is_cut(small_files: int, tmp_path: Path) -> None:
    with printed_to(tmp_path / "adc.log"):
        print("a line" * small_files, flush=True)
        print("not yet flushed", end="")
    assert (tmp_path / "adc.log").stat().st_size == small_files


def test_a_full_disk_is_known_by_the_words_of_libraries() -> None:
    assert is_disk_full(RuntimeError("Failed to commit: Could not write file: No space left on device"))
    assert is_disk_full(sqlite3.OperationalError("database or disk is full"))
    assert not is_disk_full(TOO_LARGE[0])


@pytest.mark.parametrize("words", ["File too large (os error 27)", "Input/output error", "Read-only file system"])
def test_a_model_is_not_blamed_for_what_the_system_refuses(words: str) -> None:
    # Imports torch.
    from adc_pipeline.training.architectures.loading import reported

    with pytest.raises(ValueError, match=words.partition(" (")[0]), reported(lambda reason: f"The model: {reason}."):
        raise ValueError(f"Error while serializing: I/O error: {words}")
    with pytest.raises(PipelineError), reported(lambda reason: f"The model: {reason}."):
        raise ValueError("its config.json has no model_type")
