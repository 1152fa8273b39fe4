"""Declare settings with descriptions.

The settings of every stage are plain frozen dataclasses, so that training runs without Dagster. A setting's description
is kept in its field's metadata: `defs.run_config` shows it in Dagster's launchpad, and the reference of settings in the
documentation is generated from it.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any


def setting(default: Any, description: str) -> Any:
    """Return a dataclass field with an immutable default and a description."""
    return field(default=default, metadata={"description": description})


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping with dotted names, the form of MLflow's parameters."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
