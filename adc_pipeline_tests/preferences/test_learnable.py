"""Pairs that cannot teach preferences say so; the run goes on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.preferences.learnable import count_same_texts, shortcomings
from adc_pipeline.preferences.settings import Form

GOOD = {"pairs": 900, "pairs.train": 800, "sampled.pairs": 800, "sampled.same": 0}


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, ""),
        ({"pairs": 0, "pairs.train": 0, "sampled.pairs": 0}, "There is no pair"),
        ({"pairs": 20, "pairs.train": 1}, "has 1 pair, too few"),
        ({"sampled.same": 800}, "The two replies of every pair have the same text"),
        ({"sampled.same": 781}, "only 19 have replies with different texts"),
        ({"sampled.same": 799}, "only 1 has replies with different texts"),
        ({"sampled.same": 780}, ""),
        # Only long replies, which are not compared.
        ({"sampled.pairs": 0}, ""),
    ],
)
def test_each_shortcoming_has_a_sentence(counts: dict[str, int], sentence: str) -> None:
    found = shortcomings(GOOD | counts)
    assert len(found) == bool(sentence)
    assert sentence in " ".join(found)


@pytest.mark.parametrize("form", ["conversational", "text"])
def test_texts_are_compared_without_white_space(tmp_path: Path, form: Form) -> None:
    replies = [("me too", " me\u00a0too\u200b\n"), ("yes", "no"), ("same", "same"), ("long" * 6000, "long" * 6000)]

    def completion(text: str) -> Any:
        return [{"role": "assistant", "content": text}] if form == "conversational" else text

    rows = [{"chosen": completion(chosen), "rejected": completion(rejected)} for chosen, rejected in replies]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = count_same_texts([str(tmp_path / "train.parquet")], form, Engine(), tmp_path / "spill")
    assert found == {"sampled.pairs": 3, "sampled.same": 2}
