"""Register a model so that it can be served, with the evaluation's scorer for candidates.

The scorer is no part of the code version of a model: a change of it trains no model again.
"""

from pathlib import Path
from typing import Any

from adc_pipeline.generation.registration import register_model
from adc_pipeline.tracking.run import Run


def register(run: Run, folder: Path, name: str) -> dict[str, Any]:
    """Register the model in a folder as `name`; see `generation.registration.register_model`."""
    # Imports torch.
    from adc_pipeline.evaluation import served

    return register_model(run, folder, name, served)
