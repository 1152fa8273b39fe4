"""Manifests: what an artefact is and what it was made of, as JSON that holds a checksum of itself.

A manifest that a power failure has cut off, or that somebody altered, is as good as absent: its artefact is rebuilt.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.records import CHECKSUM, Type, checked_fields, parsed, record_text, sealed, without_checksum
from adc_pipeline.core.store.links import sync

MANIFEST = "artefact.json"
# Which MLflow run made the artefact, and from what outside ADC_HOME.
MAKING = "making.json"
MAKING_TYPES: dict[str, Type] = {"run": str, "address": str, "outside": dict}
# What a record of the making has that an earlier version of this package did not write.
LATER: dict[str, Type] = {
    "found": dict,
    "shown": dict[str, dict[str, str]],
    "metrics": dict[str, float],
    "parameters": dict,
    "artifacts": dict[str, str],
    "tags": dict[str, str],
}
# What names a version wherever it lies: the artefact's name and the digest.
Key = tuple[str, str]
# Characters of a setting in the reason of a rebuild.
LONGEST_VALUE = 60
# The layout of artefacts and their manifests. Raise it with each change after which this version's code could not read
# what an earlier one has written; such an artefact is rebuilt, and is no input meanwhile.
LAYOUT = 1


@dataclass(frozen=True)
class Artefact:
    """A finished artefact: its folder, what it was made of, and how.

    `upstream_settings` are the settings of upstream artefacts by which it was made, by artefact. `place` is the folder
    below ADC_HOME where people find it. `unhashed` names the files that describe the making
    (times, addresses): they differ between two runs that made the same content, so the digest leaves them out.
    `files` maps a path in the folder to `bytes`, `modified_ns` and `sha256`.
    """

    name: str
    path: Path
    digest: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    upstream_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    code_version: str = ""
    place: str = ""
    unhashed: tuple[str, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    layout: int = LAYOUT

    @property
    def key(self) -> Key:
        return self.name, self.digest


MANIFEST_TYPES = {name: kind for name, kind in get_type_hints(Artefact).items() if name != "path"}


def differences(
    made: Artefact,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    upstream_settings: Mapping[str, Mapping[str, Any]],
    code_version: str,
) -> list[str]:
    """Return why an artefact is stale, one short reason for each setting, input and the code; empty if up to date.

    A reason has the old and the new value: `setting seed has changed from 0 to 1`.
    """
    changed = changes("setting {}", made.settings, as_json(settings))
    changed += changes("input {}", made.inputs, inputs)
    for asset in sorted({*made.upstream_settings, *upstream_settings}):
        before, now = made.upstream_settings.get(asset, {}), as_json(upstream_settings.get(asset, {}))
        changed += changes(f"setting {{}} of {asset}", before, now)
    return changed + changes("its {}", {"code": made.code_version}, {"code": code_version})


def changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a reason for each name whose values differ; `what` says what the name is."""

    def value(values: Mapping[str, Any], name: str) -> str:
        if name not in values:
            return "none"
        text = values[name] if isinstance(values[name], str) else json.dumps(values[name], ensure_ascii=False)
        if re.fullmatch("[0-9a-f]{32}", text):
            return text[:12]
        return (text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…") or "''"

    return [
        f"{what.format(name)} has changed from {value(before, name)} to {value(now, name)}"
        for name in differing(before, now)
    ]


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names whose values differ between two mappings, sorted."""
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a manifest has them."""
    read: dict[str, Any] = json.loads(json.dumps(settings))
    return read


def read_making(made: Artefact) -> dict[str, Any]:
    """Return which MLflow run made an artefact and what it read outside ADC_HOME; empty values if that is unknown."""
    try:
        record = unsealed(record_text(made.path / MAKING))
        later = {name: kind for name, kind in LATER.items() if name in record}
        return checked_fields(record, MAKING_TYPES | later)
    except (OSError, ValueError):
        return {"run": "", "address": "", "outside": {}}


def write_making(made: Artefact, record: Mapping[str, Any]) -> None:
    """Write what `read_making` returns, in one step."""
    with atomic_file(made.path / MAKING) as partial:
        partial.write_text(sealed(record))


def unsealed(content: str) -> dict[str, Any]:
    """Return the record that `sealed` wrote, or an earlier version without a checksum; ValueError if altered."""
    record = checked_fields(parsed(content), {})
    if CHECKSUM not in record and record.get("layout") == LAYOUT:
        raise ValueError("it has no checksum")
    return without_checksum(record)


def write_manifest(made: Artefact) -> None:
    """Write an artefact's manifest into its folder and have it reach the disk."""
    manifest = {key: value for key, value in asdict(made).items() if key != "path"}
    with atomic_file(made.path / MANIFEST) as partial:
        partial.write_text(sealed(manifest))
        sync(partial)
