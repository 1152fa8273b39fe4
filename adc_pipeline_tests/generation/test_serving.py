"""What a served model asks an index for, and which requests it understands."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation import serving


@pytest.mark.parametrize(
    ("installed", "asked"),
    [
        ("2.13.0", "torch==2.13.0"),
        ("2.13.0+cpu", "torch==2.13.0"),
        ("2.13.0+cu130", "torch==2.13.0"),
        ("2.13.0.post1", "torch==2.13.0.post1"),
        # Builds of an image, of a night and of a repository, which no index keeps.
        ("2.13.0a0+ecf3bae40a.nv26.02", "torch>=2.13.0a0"),
        ("2.14.0.dev20260901+cpu", "torch>=2.14.0.dev20260901"),
        ("5.25.0.dev0", "torch>=5.25.0.dev0"),
    ],
)
def test_a_requirement_can_be_installed_elsewhere(installed: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "version", lambda package: installed)
    assert serving.requirement("torch") == asked


def rows(**columns: object) -> "list[dict[Any, Any]]":
    """Return the posts of a request that is one row after MLflow's check."""
    return serving.rows_of(pd.DataFrame([columns]))


def test_columns_of_a_request_are_as_many_posts() -> None:
    assert rows(post="a", rejected=["x", "y"]) == [{"post": "a", "rejected": ["x", "y"]}]
    assert rows(post=np.array(["a", "b"])) == [{"post": "a"}, {"post": "b"}]
    # A null of `instances` is the text None by then.
    assert rows(post=["a", "b"], speaker=np.array(["None", "cy"])) == [
        {"post": "a", "speaker": None},
        {"post": "b", "speaker": "cy"},
    ]
    assert rows(post=["a", "b"], rejected=[["x"], []]) == [
        {"post": "a", "rejected": ["x"]},
        {"post": "b", "rejected": []},
    ]
    for rejected in (["x", "y"], [["x"]]):
        with pytest.raises(PipelineError, match="`rejected` does not fit to 2 values of `post`"):
            rows(post=["a", "b"], rejected=rejected)


def test_a_field_is_a_text_or_is_not_given() -> None:
    assert serving.text_of("post", "Title\r\nThe text\r\n") == "Title\nThe text"
    assert serving.text_of("speaker", None) is None
    assert serving.text_of("speaker", float("nan")) is None
    for value in (5, 1.5, True, ["a"], {"a": 1}):
        with pytest.raises(PipelineError, match=r"`title` is .*; send a text"):
            serving.text_of("title", value)
