"""Keep beside an artefact what Dagster shows of it, since Dagster's history may be wiped, moved or another one.

`shown.json` holds the values and `NAME.png` the pictures, in a folder that is no part of the content. A reused artefact
is shown by these.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shared.serdes import deserialize_value, serialize_value
from dagster_shared.serdes.errors import DeserializationError

from adc_pipeline.core.content import SHOWN
from adc_pipeline.core.records import parsed, record_text
from adc_pipeline.defs.pictures import picture

FILE = "shown.json"


def write_shown(folder: Path, values: Mapping[str, Any], pictures: Mapping[str, str], home: Path) -> None:
    """Write what is shown of the artefact in `folder`; `pictures` are paths in it, by name."""
    plain = {name: encoded(value, home) for name, value in values.items()}
    (folder / SHOWN).mkdir(exist_ok=True)
    content = json.dumps({"values": plain, "pictures": dict(pictures)}, indent=1, allow_nan=False)
    (folder / SHOWN / FILE).write_text(content + "\n")


def read_shown(folder: Path, home: Path) -> dict[str, Any]:
    """Return what is shown of the artefact in `folder` besides pictures; empty if that cannot be read."""
    try:
        shown = parsed(record_text(folder / SHOWN / FILE))
        found = {name: decoded(value, home) for name, value in shown["values"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DeserializationError):
        return {}
    return found


def shown_pictures(folder: Path) -> dict[str, Any]:
    """Return the pictures of the artefact in `folder` as metadata, those that exist."""
    try:
        paths = parsed(record_text(folder / SHOWN / FILE))["pictures"]
        there = {name: folder / path for name, path in paths.items() if (folder / path).exists()}
        return {name: picture(path.read_bytes(), name) for name, path in there.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def encoded(value: Any, home: Path) -> Any:
    """Return a value as JSON; a path below ADC_HOME is relative, since that may be moved."""
    if isinstance(value, dg.PathMetadataValue):
        path = Path(value.value or "")
        return {"path": str(path.relative_to(home) if path.is_relative_to(home) else path)}
    if isinstance(value, dg.MetadataValue):
        packed: Any = value
        return {"dagster": serialize_value(packed)}
    return value


def decoded(value: Any, home: Path) -> Any:
    """Return the value that `encoded` turned into JSON."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    return dg.MetadataValue.path(str(home / content)) if kind == "path" else deserialize_value(content)
