"""Check at the start of a run what later assets need: settings that cannot work, a base model that is not there.

Dagster checks the types of a run configuration. Whether 90 + 5 + 4 is 100 and whether the base model exists is checked
here, before hours of work.
"""

from collections.abc import Collection, Mapping
from typing import Any

from adc_pipeline.defs.stage import STAGES


def check_settings(assets: Collection[str], configured: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise PipelineError for settings (by asset) that the assets of a run cannot work with."""
    for name in assets:
        stage, values = STAGES.get(name), configured.get(name, {})
        # A value from an environment variable is known only where it is used.
        if stage is None or any(isinstance(value, dict) and "env" in value for value in values.values()):
            continue
        settings = stage.settings(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
        if stage.check:
            stage.check(settings)
