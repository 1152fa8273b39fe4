"""A corpus that is larger than the disk is refused before it is read."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.room import check_room
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import source_files

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("name", "most"), [("dump.jsonl", 1.6), ("dump.jsonl.ZST", 6.0), ("table.parquet", 6.0)])
def test_too_little_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: float) -> None:
    (tmp_path / name).write_bytes(b"x" * 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000 * most))
    check_room([tmp_path / name], tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000 * most - 1))
    with pytest.raises(PipelineError, match="make room, point ADC_HOME to another disk"):
        check_room([tmp_path / name], tmp_path)


def test_all_files_of_all_sources_count(tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    files = [tmp_path / "dumps" / "RC_2020-01.jsonl", tmp_path / "dumps" / "RS_2020-01.jsonl", tmp_path / "t.csv"]
    for file in files:
        file.write_text("{}")
    settings = CorpusSettings(f"{tmp_path / 'dumps'}, sample, {tmp_path / 't.csv'}")
    assert sorted(source_files(settings, tmp_path / "downloads")) == files
