"""What a served model asks an index for."""

import pytest

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
