"""What is begun ahead of its step is taken once, or written by the step itself; nothing of it stays."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import duckdb
import pytest

from adc_pipeline.core.ahead import THREAD, FilesAhead
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import Counts


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.unlink()
    path.rmdir()


def write(out: Path, _: Engine) -> Counts:
    (out / "rows").write_text("rows")
    return {"rows": 1}


def fail(out: Path, _: Engine) -> Counts:
    (out / "rows").write_text("half")
    raise OSError("no room")


@pytest.fixture
def busy() -> Iterator[None]:
    """Let the thread wait for the end of the test."""
    done = Event()
    waiting = THREAD.submit(done.wait)
    yield
    done.set()
    waiting.result()


def test_files_are_taken_once(tmp_path: Path) -> None:
    ahead = FilesAhead(write, folder(tmp_path / "ahead"), Engine())
    assert ahead.take(tmp_path) == {"rows": 1}
    assert (tmp_path / "rows").read_text() == "rows"
    assert ahead.take(tmp_path) is None
    assert not (tmp_path / "ahead").exists()


def test_files_of_a_failure_are_not_taken(tmp_path: Path) -> None:
    ahead = FilesAhead(fail, folder(tmp_path / "ahead"), Engine())
    assert ahead.take(tmp_path) is None
    ahead.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("ended_by", [lambda ahead, to: ahead.take(to), lambda ahead, _: ahead.interrupt()])
def test_neither_its_step_nor_the_end_of_a_run_waits_for_what_has_not_begun(
    tmp_path: Path, ended_by: Callable[[FilesAhead, Path], Counts | None]
) -> None:
    ahead = FilesAhead(write, folder(tmp_path / "ahead"), Engine())
    assert ended_by(ahead, tmp_path) is None
    ahead.close()
    assert not list(tmp_path.iterdir())


def test_the_end_of_a_run_interrupts_every_statement(tmp_path: Path) -> None:
    begun = Event()

    def write_for_hours(out: Path, engine: Engine) -> Counts:
        with engine.shared(out / "spill") as shared:
            for _ in range(3):
                with suppress(duckdb.InterruptException), shared.connect() as connection:
                    begun.set()
                    shared.run(connection, "counting", "SELECT count(*) FROM range(1000000000000)")
        return {}

    ahead = FilesAhead(write_for_hours, folder(tmp_path / "ahead"), Engine())
    begun.wait()
    ahead.interrupt()
    ahead.close()
    assert not list(tmp_path.iterdir())
