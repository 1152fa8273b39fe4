"""The command that starts a training process: through `accelerate launch` if a configuration file is named.

On one device the process finds its GPU, or the CPU, by itself, and starts 4 to 5 s sooner without the launcher.
"""

import os
import sys
from pathlib import Path

# Has the training end when the process that started it ends.
END_WITH_PARENT = "--end-with-parent"


def launch_command(job: Path, accelerate_config: str = "") -> list[str]:
    """Return the command that runs the training job in the JSON file `job`."""
    module = ["-m", "adc_pipeline.training", str(job)]
    if not accelerate_config:
        return [sys.executable, *module]
    launcher = ["-m", "accelerate.commands.launch", "--config_file", os.path.expanduser(accelerate_config)]
    return [sys.executable, *launcher, *module]
