"""Tiny models with random weights, which write anything at all: what holds for them holds for any."""

import json
from pathlib import Path

import pytest

from adc_pipeline.generation.address import inside
from adc_pipeline.generation.replier import Replier
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline_tests.training.conftest import small_model

__all__ = ["small_model"]


@pytest.fixture(scope="session")
def tokenizer(small_model: Path) -> MarkerTokenizer:
    return MarkerTokenizer.load(small_model)


@pytest.fixture(scope="session")
def replier(small_model: Path) -> Replier:
    return Replier.load(inside(small_model, str(small_model)))


def trained_with(model: Path, folder: Path, **facts: object) -> Replier:
    """The same model with a `training.json`."""
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "training.json").write_text(json.dumps(facts))
    return Replier.load(inside(folder, str(folder)))
