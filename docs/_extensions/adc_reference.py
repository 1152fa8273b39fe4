"""Directives that generate the reference from the code: settings, commands, Dagster definitions, places.

    ```{adc-settings} adc_pipeline.corpus.settings.CorpusSettings
    ```
    ```{adc-command} adc_pipeline.lineage
    ```
    ```{adc-definitions} assets
    ```

A setting, command or asset that has no description fails the build. Importing the definitions takes 1.6 s, the help of
a command 0.1 to 0.3 s.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from adc_pipeline.core.settings import declared

ROOT = Path(__file__).parents[2]


def inline(text: str) -> list[nodes.Node]:
    """Return plain text as nodes; what stands between backticks becomes literal."""
    parts = re.split(r"`+([^`]+)`+", " ".join(text.split()))
    return [nodes.literal(part, part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> nodes.table:
    """Return a table of cells of plain text with backticks."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in widths]

    def line(cells: Sequence[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *inline(cell))) for cell in cells))

    group += nodes.thead("", line(header))
    group += nodes.tbody("", *(line(cells) for cells in rows))
    return nodes.table("", group)


def spelled(annotation: Any) -> str:
    """Return a type as the reference shows it: `int`, `list of str`, `mle | filtering`, `int, optional`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (Union, UnionType):
        kept = " | ".join(spelled(each) for each in arguments if each is not NoneType)
        return f"{kept}, optional" if NoneType in arguments else kept
    if origin in (tuple, list):
        return f"list of {spelled(arguments[0])}"
    if origin is dict:
        return f"map of {spelled(arguments[0])} to {spelled(arguments[1])}"
    return str(annotation.__name__)


def default_of(value: Any) -> str:
    """Return a default as YAML spells it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(default_of, value))}]"
    if value == {}:
        return "{}"
    return str(value)


def settings_of(kind: type) -> Iterator[tuple[str, str, Any, str]]:
    """Yield name, type with range, default and description of each setting of a dataclass."""
    hints = get_type_hints(kind)
    for each in declared(kind).values():
        limits = f", {each.accepts}" if each.accepts and get_origin(hints[each.name]) is not Literal else ""
        yield each.name, spelled(hints[each.name]) + limits, each.default, each.description


def load(path: str) -> Any:
    """Return the object at a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


class Settings(SphinxDirective):
    """Every setting of one class, with its type, default and description."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        path = self.arguments[0]
        entries = nodes.definition_list(classes=["settings"])
        for name, kind_and_range, default, description in settings_of(load(path)):
            if not description:
                raise ExtensionError(f"The setting {name} of {path} has no description.")
            term = nodes.term("", "", nodes.literal(name, name))
            shown = kind_and_range + ("" if default is MISSING else f", default `{default_of(default)}`")
            kind = nodes.classifier("", "", *inline(shown))
            stop = "" if description.rstrip().endswith((".", "!", "?")) else "."
            body = nodes.definition("", nodes.paragraph("", "", *inline(description + stop)))
            entries += nodes.definition_list_item("", term, kind, body)
        for node in entries.findall(nodes.Element):
            self.set_source_info(node)
        return [entries]


@cache
def help_of(module: str, arguments: tuple[str, ...]) -> str:
    """Return what a command prints with `--help`."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    if done.returncode or not done.stdout.strip():
        raise ExtensionError(f"{' '.join(command)} failed: {done.stderr}")
    # The installed command, as readers call it.
    return done.stdout.strip().replace("python -m adc_pipeline ", "adc ")


class Command(SphinxDirective):
    """The help of a command of this package: a module and, where it has subcommands, their names."""

    required_arguments = 1
    optional_arguments = 9
    has_content = False

    def run(self) -> list[nodes.Node]:
        module, *arguments = self.arguments
        text = help_of(module, tuple(arguments))
        return [nodes.literal_block(text, text, language="text")]


def definitions() -> Any:
    return load("adc_pipeline.definitions.defs")


def assets() -> tuple[list[str], list[list[str]], list[int]]:
    rows = []
    specs = {spec.key.to_user_string(): spec for spec in definitions().resolve_all_asset_specs()}
    inputs = {name: sorted(dep.asset_key.to_user_string() for dep in specs[name].deps) for name in sorted(specs)}
    for name in TopologicalSorter(inputs).static_order():
        spec = specs[name]
        if not spec.description:
            raise ExtensionError(f"The asset {name} has no description.")
        # The first paragraph, as a docstring's summary.
        summary = spec.description.partition("\n\n")[0]
        rows.append([f"`{name}`", spec.group_name, summary, ", ".join(f"`{each}`" for each in inputs[name])])
    return ["asset", "group", "what it is", "made from"], rows, [20, 14, 44, 22]


def checks() -> tuple[list[str], list[list[str]], list[int]]:
    rows = []
    for check in definitions().asset_checks:
        for spec in check.check_specs:
            blocks = "yes" if spec.blocking else "no"
            name = spec.asset_key.to_user_string()
            rows.append([f"`{spec.name}`", f"`{name}`", spec.description or "", blocks])
    return ["check", "asset", "passes if", "blocks what is downstream"], sorted(rows), [22, 22, 40, 16]


def jobs() -> tuple[list[str], list[list[str]], list[int]]:
    made = [definitions().resolve_job_def(job.name) for job in definitions().jobs]
    rows = [[f"`{job.name}`", job.description or "", ", ".join(f"`{node.name}`" for node in job.nodes)] for job in made]
    return ["job", "what it does", "assets and ops"], rows, [14, 36, 50]


def automation() -> tuple[list[str], list[list[str]], list[int]]:
    rows = [
        [f"`{each.name}`", f"schedule, `{each.cron_schedule}`", each.description or ""]
        for each in definitions().schedules
    ]
    rows += [
        [f"`{each.name}`", f"sensor, every {each.minimum_interval_seconds or 30} s", each.description or ""]
        for each in definitions().sensors
    ]
    return ["name", "kind", "what it does"], rows, [20, 24, 56]


def places() -> tuple[list[str], list[list[str]], list[int]]:
    assert definitions()
    stages = load("adc_pipeline.defs.stage.STAGES")
    rows = sorted([f"`{stage.place}`", f"`{name}`"] for name, stage in stages.items())
    return ["place in ADC_HOME", "asset"], rows, [50, 50]


TABLES = {"assets": assets, "checks": checks, "jobs": jobs, "automation": automation, "places": places}


class Definitions(SphinxDirective):
    """A table of the assets, checks, jobs, schedules and sensors that Dagster loads, or of the artefacts' places."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in TABLES:
            raise self.error(f"{self.arguments[0]} is none of {', '.join(TABLES)}.")
        return [table(*TABLES[self.arguments[0]]())]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("adc-settings", Settings)
    app.add_directive("adc-command", Command)
    app.add_directive("adc-definitions", Definitions)
    return {"version": "1", "parallel_read_safe": True}
