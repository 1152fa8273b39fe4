"""How the training process is started: through `accelerate launch`, with one of its configuration files."""

import sys
from pathlib import Path

PRESETS = Path(__file__).parent.parent / "presets" / "accelerate"


def launch_command(job: Path, accelerate_config: str = "") -> list[str]:
    """The command that runs the training job in the JSON file `job`.

    Without an accelerate configuration file it takes `gpu.yaml` where CUDA sees a GPU, and `cpu.yaml` otherwise.
    """
    import torch

    chosen = accelerate_config or PRESETS / ("gpu.yaml" if torch.cuda.is_available() else "cpu.yaml")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(chosen)]
    return [*launcher, "-m", "adc_pipeline.training", str(job)]
