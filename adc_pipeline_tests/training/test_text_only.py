"""Datasets with the only column `text`, as the public ones of 2023."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.settings import TrainingJob, TrainingSettings
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.training.texts.layout import segments
from adc_pipeline.walks.markers import FORMATS, FormatName
from adc_pipeline.walks.splits import split_of
from adc_pipeline_tests.training.walks import random_walk


def write_texts(folder: Path, **splits: Sequence[str | None]) -> Path:
    (folder / "data").mkdir(parents=True)
    for split, texts in splits.items():
        table = pa.table({"text": pa.array(texts, pa.string())})
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001-0123456789abcdef.parquet")
    return folder


def in_format(text: str, format: FormatName) -> str:
    for ours, theirs in zip(FORMATS["default"].strings(), FORMATS[format].strings(), strict=True):
        text = text.replace(ours, theirs)
    return text


@pytest.mark.parametrize("format", FORMATS)
def test_walks_are_cut_at_their_markers(tmp_path: Path, format: FormatName) -> None:
    walks = [random_walk(number) for number in range(30)]
    texts = [in_format(walk["text"], format) for walk in walks]
    # A tail without a verdict, and what is no walk.
    folder = write_texts(tmp_path, train=[*texts[:-1], f"{texts[-1]}cut off", "no walk", None], validation=texts[:2])
    found = list(read_walks(folder, "train"))

    def turns(walk: dict[str, Any]) -> list[str]:
        return [turn["verdict"] for turn in walk["turns"]]

    for read, walk, text in zip(found, walks, texts, strict=True):
        assert read["text"] == text
        assert turns(read) == turns(walk)
        assert segments(read, FORMATS[format]) == segments(walk, FORMATS["default"])
    assert [each["text"] for each in read_walks(folder, "validation")] == texts[:2]


def test_a_missing_validation_split_is_cut_from_training_by_conversation(tmp_path: Path) -> None:
    texts = [random_walk(number)["text"] for number in range(300)]
    folder = write_texts(tmp_path, train=texts + texts)
    splits = {split: list(read_walks(folder, split)) for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == 600
    assert splits["validation"]
    for split, walks in splits.items():
        assert all(split_of(walk["conversation_id"]) == split for walk in walks)


@pytest.mark.parametrize("texts", [["no walk"], ["a<background>b"], ["<accepted>a<background>"], []])
def test_texts_without_markers_are_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(PipelineError, match="no walks with markers"):
        list(read_walks(write_texts(tmp_path, train=texts), "train"))


@pytest.mark.slow
def test_a_model_is_trained_on_texts_alone(tmp_path: Path, small_model: Path) -> None:
    folder = write_texts(tmp_path / "texts", train=[random_walk(number)["text"] for number in range(60)])
    settings = TrainingSettings(sequence_length=64, tokens_per_step=256, max_steps=2)
    facts = train(TrainingJob(settings, folder, small_model, tmp_path / "output", tmp_path / "work"))
    assert facts["steps"] == 2
    assert facts["train"]["walks"] + facts["validation"]["walks"] <= 60
    assert (tmp_path / "output" / "model.safetensors").exists()
