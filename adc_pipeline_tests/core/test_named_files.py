"""YAML files as editors write them are read, and a wrong one is refused with the place of what is wrong."""

import codecs
import errno
import os
from math import inf
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import read_mapping, refused_by_system

TEXT = "ops:\n  a: é\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_a_file_of_any_editor_is_read(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    assert read_mapping(file) == {"ops": {"a": "é"}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ops:\n\ta: 1\n", r"found character '\\t' that cannot start any token in line 2.: give a YAML file"),
        (b"ops: {}\n---\nops: {}\n", "expected a single document in the stream, but found another document in line 2"),
        (b"ops: *nothing\n", "found undefined alias '...' in line 1"),
        (b"ops: {a: 1\n", "expected ',' or '}', but got '<stream end>' in line 2"),
        ("ops: é".encode("latin-1"), "'utf-8' codec can't decode"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(PipelineError, match=sentence):
        read_mapping(file)


def test_a_number_that_yaml_reads_as_another_one_is_refused(tmp_path: Path) -> None:
    """`017` is 15 to YAML 1.1, and `10:30` is 630, also where a text was meant, such as a revision of a model."""
    file = tmp_path / "run.yaml"
    for written, read in (("017", 15), ("-0_12", -10), ("10:30", 630), ("190:20:30.5", 685230.5)):
        file.write_text(f"a: 1\nb: {written}\n")
        with pytest.raises(PipelineError, match=f"YAML reads {written} in line 2 as {read}"):
            read_mapping(file)
    values = {
        "0": 0,
        "00": 0,
        "0.5": 0.5,
        "10": 10,
        "1_000": 1000,
        "0x1F": 31,
        "0b11": 3,
        "08": "08",
        "'017'": "017",
        ".inf": inf,
    }
    for written, value in values.items():
        file.write_text(f"b: {written}\n")
        assert read_mapping(file) == {"b": value}


@pytest.mark.parametrize(
    "value", ["*{}", "!{}", "!a!{}", "!!python/{}", "!{}'s", "&{0} a\nb: &{0} c", "%{}", "@{}", "`{}"]
)
def test_an_unquoted_password_is_not_repeated(tmp_path: Path, value: str) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(f"mail_password: {value.format('secret1password')}\n")
    with pytest.raises(PipelineError, match="in line") as raised:
        read_mapping(file)
    assert "secret1password" not in str(raised.value)


@pytest.mark.parametrize("path", ["", "inner"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "claims").write_text("")
    with pytest.raises(OSError, match="claims") as refused:
        (tmp_path / "claims" / path).mkdir(parents=True, exist_ok=True)
    assert "is no folder, or lies below a file" in refused_by_system(refused.value)
    assert refused_by_system(refused.value).endswith("move that file away.")


def test_a_link_that_leads_nowhere_in_place_of_a_folder_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to("/mnt/not-mounted")
    with pytest.raises(OSError, match="store") as refused:
        (tmp_path / "store").mkdir(parents=True, exist_ok=True)
    sentence = refused_by_system(refused.value)
    assert "store is a link to /mnt/not-mounted, which does not exist: mount what it leads to, or remove" in sentence


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EIO, "check the disk"),
        (errno.EROFS, "for writing"),
        (errno.ENOSPC, "make room"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_the_system_says_of_a_disk_is_no_matter_of_the_path(number: int, remedy: str) -> None:
    sentence = refused_by_system(OSError(number, os.strerror(number), "/srv/adc/a.parquet"))
    assert os.strerror(number) in sentence
    assert remedy in sentence
    assert "correct the path" not in sentence
