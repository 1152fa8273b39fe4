"""A compose file as an engine sees it: variables put in, override files merged.

Only what the files of this project use, by the rules of the compose specification ("Interpolation" and "Merge");
anything else is an error rather than a guess.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# A default may itself hold variables, one level deep.
DEFAULT = r"(?P<default>(?:[^{}$]|\$\{[^{}]*\})*)"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-" + DEFAULT + r")?\}|(?P<unknown>.?))")


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with `${NAME}` and `${NAME:-default}` replaced in every string; an empty variable counts as unset."""

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
    """Mappings key by key, sequences one after the other, anything else replaced: an override file over the first."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **{key: merged(first[key], item) if key in first else item for key, item in second.items()}}
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return second


def read(files: Sequence[Path], variables: Mapping[str, str]) -> dict[str, Any]:
    """The project that several compose files describe together, later ones over earlier ones."""
    project: dict[str, Any] = {}
    for file in files:
        project = merged(project, interpolated(yaml.safe_load(file.read_text()), variables))
    return project


def start_order(project: Mapping[str, Any]) -> list[str]:
    """The services' names, each after those that it depends on; ValueError for a loop."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"The services wait for each other in a circle: {' -> '.join((*above, name))}")
        for dependency in project["services"][name].get("depends_on", {}):
            visit(dependency, (*above, name))
        if name not in order:
            order.append(name)

    for name in project["services"]:
        visit(name, ())
    return order
