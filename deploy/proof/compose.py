"""Read compose files: interpolate variables and merge override files.

Implements the part of the compose specification ("Interpolation" and "Merge") that this project's files use; anything
else raises an error.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# A default may contain variables, one level deep.
DEFAULT = r"(?P<default>(?:[^{}$]|\$\{[^{}]*\})*)"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-" + DEFAULT + r")?\}|(?P<unknown>.?))")


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Return `value` with `${NAME}` and `${NAME:-default}` replaced in every string; an empty variable is unset."""

    def replacement(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["name"] is None:
            raise ValueError(f"{match.string!r} has a $ that is neither $$, ${{NAME}} nor ${{NAME:-default}}")
        return variables.get(match["name"]) or str(interpolated(match["default"] or "", variables))

    if isinstance(value, str):
        return VARIABLE.sub(replacement, value)
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    return value


def merged(first: Any, second: Any) -> Any:
    """Return `first` overridden by `second`: mappings are merged, sequences concatenated, other values replaced."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **{key: merged(first[key], item) if key in first else item for key, item in second.items()}}
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return second


def read(files: Sequence[Path], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the project of several compose files; later files override earlier ones."""
    project: dict[str, Any] = {}
    for file in files:
        project = merged(project, interpolated(yaml.safe_load(file.read_text()), variables))
    return project


def start_order(project: Mapping[str, Any]) -> list[str]:
    """Return the names of the services in dependency order; raise ValueError for a cycle."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"The services depend on each other in a cycle: {' -> '.join((*above, name))}.")
        for dependency in project["services"][name].get("depends_on", {}):
            visit(dependency, (*above, name))
        if name not in order:
            order.append(name)

    for name in project["services"]:
        visit(name, ())
    return order
