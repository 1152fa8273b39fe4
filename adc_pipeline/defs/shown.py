"""Keep beside an artefact what Dagster shows of it, since Dagster's history may be wiped, moved or another one.

`shown.json` holds the values and `NAME.png` the pictures, in a folder that is no part of the content. A reused artefact
is shown by these.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shared.serdes import deserialize_value, serialize_value

from adc_pipeline.core.records import parsed, record_bytes
from adc_pipeline.core.store.content import SHOWN, file_digest
from adc_pipeline.defs.pictures import picture

FILE = "shown.json"


def write_shown(folder: Path, values: Mapping[str, Any], pictures: Mapping[str, str], home: Path) -> None:
    """Write what is shown of the artefact in `folder`; `pictures` are paths in it, by name."""
    plain = {name: encoded(value, home) for name, value in values.items()}
    (folder / SHOWN).mkdir(exist_ok=True)
    content = json.dumps({"values": plain, "pictures": dict(pictures)}, indent=1, allow_nan=False)
    (folder / SHOWN / FILE).write_text(content + "\n")


def shown_digests(folder: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file that is shown of the artefact in `folder`, as `making.json` records it."""
    return {f"{SHOWN}/{path.name}": {"sha256": file_digest(path)} for path in sorted((folder / SHOWN).iterdir())}


def read_shown(folder: Path, recorded: Mapping[str, Mapping[str, str]], home: Path) -> dict[str, Any]:
    """Return what is shown of the artefact in `folder` besides pictures; empty if it is not as `recorded`."""
    values = intact(folder, recorded).get("values", {})
    return {name: decoded(value, home) for name, value in values.items()}


def shown_pictures(folder: Path, recorded: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the pictures of the artefact in `folder` as metadata, those that exist and are as `recorded`."""
    found = {}
    for name, path in intact(folder, recorded).get("pictures", {}).items():
        # The others are files of the artefact, which are compared with its manifest.
        with suppress(OSError, ValueError):
            content = record_bytes(folder / path)
            if path not in recorded or sha256(content).hexdigest() == recorded[path]["sha256"]:
                found[name] = picture(content, name)
    return found


def intact(folder: Path, recorded: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the record of what is shown of the artefact in `folder`; empty unless it has the recorded digest.

    Dagster makes objects of what it holds, so that an altered value could end the run of an artefact that is intact.
    """
    try:
        content = record_bytes(folder / SHOWN / FILE)
        known = recorded.get(f"{SHOWN}/{FILE}", {}).get("sha256")
        return dict(parsed(content)) if sha256(content).hexdigest() == known else {}
    except (OSError, ValueError):
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
