"""What the base model is read from, as far as a look tells: so that a rebuild notices another one by the same name."""

from pathlib import Path
from typing import Any

from adc_pipeline.training.settings import BaseModelSettings

SECONDS_FOR_THE_HUB = 10.0


def origin(settings: BaseModelSettings) -> dict[str, Any]:
    """Size and time of each file of a folder, or the commit that a Hub model's revision stands for now.

    The commit is None where the Hub cannot be asked. Nothing for `small`, which its settings decide.
    """
    if settings.name == "small":
        return {}
    folder = Path(settings.name).expanduser()
    if folder.is_dir():
        stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
        return {str(path): [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(settings.name, revision=settings.revision, timeout=SECONDS_FOR_THE_HUB)
    except Exception:
        # No network, a gated or a renamed model: what is wrong is said where the model is loaded.
        return {settings.name: None}
    return {settings.name: found.sha}
