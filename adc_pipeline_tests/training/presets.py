"""Where Accelerate's configuration files are."""

from pathlib import Path

import adc_pipeline

PRESETS = Path(adc_pipeline.__file__).parent / "presets" / "accelerate"
