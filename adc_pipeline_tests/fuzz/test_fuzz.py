"""The fuzzer on a few examples, and what it has found."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline_tests.fuzz.inputs import FORMATS, Input, inputs, parquet, utterances
from adc_pipeline_tests.fuzz.pipeline import outcome


@pytest.fixture
def work() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


def result(given: Input, work: Path) -> str:
    settings = CorpusSettings(corpus=str(given.write(work / "given")), format=given.format)  # type: ignore[arg-type]
    return outcome(settings, work / "out")


@pytest.mark.slow
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(inputs())
def test_any_corpus_is_refused_with_a_sentence_or_built(example: Input) -> None:
    assert example.kind in FORMATS
    with TemporaryDirectory() as folder:
        assert result(example, Path(folder))


@pytest.mark.slow
def test_an_undamaged_corpus_is_built(work: Path) -> None:
    assert result(Input("parquet", {"c.parquet": parquet(utterances())}, "c.parquet"), work) == "built"


def test_a_dump_that_unpacks_to_nothing(work: Path) -> None:
    empty = Input("lines", {"c.jsonl.gz": gzip.compress(b"")}, "c.jsonl.gz", "dump")
    assert result(empty, work).startswith("The corpus holds no utterances")


def test_a_parquet_file_with_a_damaged_page(work: Path) -> None:
    content = bytearray(parquet(utterances()))
    content[4:60] = bytes(56)
    sentence = result(Input("parquet", {"c.parquet": bytes(content)}, "c.parquet"), work)
    assert "c.parquet, which the setting corpus names, could not be read: it is damaged" in sentence
