"""Declare a setting with its description.

The settings of every stage are plain frozen dataclasses, so that training runs where Dagster is not installed. The
description travels in the field's metadata; `defs.run_config` shows it in the launchpad, and the documentation's
reference of settings is generated from it.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any


def setting(default: Any, description: str) -> Any:
    """Return a dataclass field with this default (immutable) and description."""
    return field(default=default, metadata={"description": description})


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names, as MLflow's parameters need them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
