"""Identify what the base model is read from, so that a rebuild notices another model of the same name."""

from pathlib import Path
from typing import Any

from adc_pipeline.training.settings import BaseModelSettings

SECONDS_FOR_THE_HUB = 10.0


def origin(settings: BaseModelSettings) -> dict[str, Any]:
    """Return size and time of each file of a folder, or the commit that a Hub model's revision stands for now.

    The commit is None if the Hub cannot be reached. Empty for `small`, which its settings define.
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
        # No network, a gated or a renamed model: loading it reports what is wrong.
        return {settings.name: None}
    return {settings.name: found.sha}
