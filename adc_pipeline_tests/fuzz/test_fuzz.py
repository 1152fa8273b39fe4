"""The fuzzer on a few examples, and what it has found."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from adc_pipeline_tests.fuzz.containers import parquet
from adc_pipeline_tests.fuzz.inputs import FORMATS, Input, inputs, utterances
from adc_pipeline_tests.fuzz.pipeline import outcome


@pytest.fixture
def work() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(inputs())
def test_any_corpus_is_refused_with_a_sentence_or_built(example: Input) -> None:
    assert example.kind in FORMATS
    with TemporaryDirectory() as folder:
        assert outcome(example, Path(folder))


@pytest.mark.slow
def test_an_undamaged_corpus_is_built(work: Path) -> None:
    assert outcome(Input("parquet", {"c.parquet": parquet(utterances())}, "c.parquet"), work) == "built"


def test_a_dump_that_unpacks_to_nothing(work: Path) -> None:
    empty = Input("lines", {"c.jsonl.gz": gzip.compress(b"")}, "c.jsonl.gz", "dump")
    assert outcome(empty, work).startswith("The corpus holds no utterances")


def test_a_parquet_file_with_a_damaged_page(work: Path) -> None:
    content = bytearray(parquet(utterances()))
    content[4:60] = bytes(56)
    sentence = outcome(Input("parquet", {"c.parquet": bytes(content)}, "c.parquet"), work)
    assert "c.parquet, which the setting corpus names, could not be read: it is damaged" in sentence


def test_a_zip_whose_packed_bytes_are_damaged(work: Path) -> None:
    """ConvoKit's own files are unpacked without a look at their first bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("utterances.jsonl", "".join(f'{{"id": "{number * 7919 % 1009}"}}\n' for number in range(999)))
    content = bytearray(packed.getvalue())
    content[300:400] = b"\xff" * 100
    with pytest.raises(zlib.error), zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.read("utterances.jsonl")
    sentence = outcome(Input("convokit", {"corpus.zip": bytes(content)}, "corpus.zip"), work)
    assert sentence.endswith("corpus.zip, which the setting corpus names, is damaged or incomplete: fetch it again.")


def test_a_header_that_is_no_utf8(work: Path) -> None:
    """A column whose name has such bytes is read where nothing needs it, and named where something does."""
    names = b"id\tconversation_id\treply_to\tspeaker\ttext\tscore\t"
    record = b"c0\tc0\t\ts0\tWhich kettle?\t1\t2\n"
    other = Input("tsv", {"c.tsv": names + b"Gr\xf6\xdfe\n" + record}, "c.tsv")
    needed = Input("tsv", {"d.tsv": names.replace(b"score", b"sc\xf6re") + b"other\n" + record}, "d.tsv", "table")
    assert outcome(other, work / "other") == "built"
    assert r"has no column score (did you mean sc\xf6re?)" in outcome(needed, work / "needed")
