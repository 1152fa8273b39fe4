"""The jobs that begin with a preset, a run configuration file of the package."""

from pathlib import Path
from typing import Any

from adc_pipeline.core.named_files import read_mapping

FILES = Path(__file__).parents[1] / "presets"
# By job: a preset's name, and the job whose assets it makes.
PRESETS = {"datasets_released": ("released", "datasets"), "adc_gpu": ("gpu", "adc")}


def preset_config(job: str) -> dict[str, Any]:
    """Return the run configuration of a job's preset; an empty one for a job without."""
    if job not in PRESETS:
        return {}
    return read_mapping(FILES / f"{PRESETS[job][0]}.yaml")
