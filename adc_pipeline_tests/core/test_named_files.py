"""YAML files as editors write them are read, and a wrong one is refused with the place of what is wrong."""

import codecs
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import read_mapping

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


@pytest.mark.parametrize(
    "value", ["*{}", "!{}", "!a!{}", "!!python/{}", "!{}'s", "&{0} a\nb: &{0} c", "%{}", "@{}", "`{}"]
)
def test_an_unquoted_password_is_not_repeated(tmp_path: Path, value: str) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(f"mail_password: {value.format('secret1password')}\n")
    with pytest.raises(PipelineError, match="in line") as raised:
        read_mapping(file)
    assert "secret1password" not in str(raised.value)
