"""What a training process of the tests is started with: Accelerate's configuration files, and an environment."""

import os
from pathlib import Path

import adc_pipeline

PRESETS = Path(adc_pipeline.__file__).parent / "presets" / "accelerate"


def environment(**more: str) -> dict[str, str]:
    """This process's, but for what would have the training report to a Dagster step."""
    hidden = ("DAGSTER_PIPES_CONTEXT", "DAGSTER_PIPES_MESSAGES")
    return {name: value for name, value in os.environ.items() if name not in hidden} | more
