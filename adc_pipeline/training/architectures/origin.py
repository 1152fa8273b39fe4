"""Identify what a model from elsewhere is read from, so that a rebuild notices another model of the same name."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from adc_pipeline.core.named_files import named_path
from adc_pipeline.training.settings import BaseModelSettings

SECONDS_FOR_THE_HUB = 10.0


def origin(settings: BaseModelSettings) -> dict[str, Any]:
    """Return what `named_source` returns for the base model; empty for `small`, which its settings define."""
    return {} if settings.name == "small" else named_source(settings.name, settings.revision)


def named_source(name: str, revision: str | None) -> dict[str, Any]:
    """Return size and time of each file of a folder, or the commit that a Hub model's revision stands for now.

    The commit is None if the Hub cannot be reached.
    """
    folder = named_path(name)
    if os.path.isdir(folder):
        return dict(sorted(stamps(folder)))
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(name, revision=revision, timeout=SECONDS_FOR_THE_HUB)
    except Exception:
        # No network, a gated or a renamed model: loading it reports what is wrong.
        return {name: None}
    return {name: found.sha}


def stamps(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Yield path, size and time of each file of a model, which lie side by side; loading reports an unreadable one."""
    with suppress(OSError):
        for path in folder.iterdir():
            if os.path.isfile(path):
                stat = path.stat()
                yield str(path), [stat.st_size, stat.st_mtime_ns]
