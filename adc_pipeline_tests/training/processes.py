"""What a training process of the tests is started with: Accelerate's configuration files, and an environment."""

import os
from pathlib import Path

import adc_pipeline

PRESETS = Path(adc_pipeline.__file__).parent / "presets" / "accelerate"


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment with `more`."""
    return {**os.environ, **more}
