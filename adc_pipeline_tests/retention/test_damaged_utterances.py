"""A version of `utterances` whose rows cannot be read counts as one with rows of the removal list."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adc_pipeline.core.engine import connected
from adc_pipeline.core.store.content import scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.privacy.removals import FILE, read_removals
from adc_pipeline.lifecycle.removal import holds

ROW = "SELECT 'a' AS id, 'ann' AS speaker, 'Oil it.' AS text, NULL::VARCHAR AS title, 'fixit' AS source"


def flip(path: Path) -> None:
    """Alter a byte where DuckDB looks first, and leave size and time."""
    found, content = path.stat(), bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9])


@pytest.mark.parametrize("change", [flip, to_folder, to_fifo, cut, Path.unlink])
def test_what_cannot_be_read_counts(tmp_path: Path, change: Callable[[Path], object]) -> None:
    (tmp_path / FILE).write_text("speaker bob\n")
    removals = read_removals(tmp_path)
    path = tmp_path / "utterances" / "00000-of-00001" / "utterances-00000.parquet"
    path.parent.mkdir(parents=True)
    with connected() as connection:
        connection.sql(ROW).write_parquet(str(path))
    folder = tmp_path / "utterances"
    made = Artefact("utterances", folder, "0" * 32, files=scan(folder))
    assert not holds(made, removals)
    change(path)
    assert holds(made, removals)
