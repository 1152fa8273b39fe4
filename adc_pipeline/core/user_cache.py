"""The user's cache folder: what is there can be computed again, and is kept because that takes a noticeable time."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return this user's cache folder of the pipeline, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")).absolute() / "adc-pipeline"
