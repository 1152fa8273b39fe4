"""Identify what a model from elsewhere is read from, so that a rebuild notices another model of the same name."""

from pathlib import Path
from typing import Any

from adc_pipeline.training.settings import BaseModelSettings

SECONDS_FOR_THE_HUB = 10.0


def origin(settings: BaseModelSettings) -> dict[str, Any]:
    """Return what `named_source` returns for the base model; empty for `small`, which its settings define."""
    return {} if settings.name == "small" else named_source(settings.name, settings.revision)


def named_source(name: str, revision: str | None) -> dict[str, Any]:
    """Return size and time of each file of a folder, or the commit that a Hub model's revision stands for now.

    The commit is None if the Hub cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
        return {str(path): [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(name, revision=revision, timeout=SECONDS_FOR_THE_HUB)
    except Exception:
        # No network, a gated or a renamed model: loading it reports what is wrong.
        return {name: None}
    return {name: found.sha}
