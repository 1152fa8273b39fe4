"""Declare a setting with its description.

The settings of every stage are plain frozen dataclasses, so that training runs where Dagster is not installed. The
description travels in the field's metadata; `defs.run_config` shows it in the launchpad, and the documentation's
reference of settings is generated from it.
"""

from dataclasses import field
from typing import Any


def setting(default: Any, description: str) -> Any:
    """Return a dataclass field with this default (immutable) and description."""
    return field(default=default, metadata={"description": description})
