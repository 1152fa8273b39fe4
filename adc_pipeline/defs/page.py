"""What an asset's page in Dagster shows: why it was made or reused, by which settings, and what it holds.

The rows come in this order, which Dagster keeps: `reason`, `settings`, `run_config`, then the stage's own figures and
pictures, then where things are. Numbers have four significant digits, and Dagster plots them over an asset's
materializations. Dagster shows less than 1,000 characters of Markdown in the row itself, a longer one behind a click.
Of the pictures only that of the headline figures, a small SVG (`evaluation.presentation.small_picture`), is visible
without a click.

Dagster's column of values is as wide as its longest value, such as an address, and in a window of 1,280 pixels most of
that is beyond the edge. So text has lines short enough for what is left beside the column of names.

Dagster stores the metadata of a materialization twice. So a reused artefact does not repeat the pictures and the
preview that an earlier materialization shows.
"""

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import dagster as dg
import yaml

from adc_pipeline.core.columns import column_types, row_count
from adc_pipeline.core.markdown import LONG, escape, one_line
from adc_pipeline.core.store.manifests import Artefact, as_json, read_making
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.shown import read_shown, shown_pictures
from adc_pipeline.defs.stage import STAGES, Stage

# The run whose materialization has the pictures and the preview of this data version.
PICTURES_IN = "pictures_in_run"
PREVIEW = "preview"
# Rows that the frame writes.
ROWS = (
    "reason", "made", "settings", "run_config", "defaults", "digest", "path", "mlflow_run", "mlflow_run_id",
    "unchanged", PICTURES_IN,
)  # fmt: skip
# Pixels of Dagster's page in a window of 1,280: the table without its column of times and its margins; of these, the
# names at most, of which Dagster breaks longer ones; and a character.
TABLE, NAMES, CHARACTER = 470, 277, 8.4
# Pixels on both sides of a name.
MARGIN = 23
# Prefix of the counts that a check puts into words: they have no rows of their own.
IN_WORDS = "sampled."
# An image without an address has no width, allows a line break beside it, and is no part of what a person copies.
# Dagster's Markdown drops `<wbr>`.
BREAK = "![]()"
# One visible character of escaped Markdown.
CHARACTERS = re.compile(r"\\.|&\w+;|.")
# At the start of a line, Markdown would take these for a list or a heading.
BEGINS = re.compile(r"^(\d*)(?=[-+#=.)])")


def page_of(
    stage: Stage[Any],
    request: Request[Any],
    made: Artefact,
    reasons: Sequence[str],
    restored: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metadata of a materialization; `reasons` are empty if the artefact is reused."""
    making = read_making(made)
    recorded = making.get("shown", {})
    # As a manifest has them: a list for a tuple.
    made = replace(made, settings=as_json(made.settings))
    reason = f"Rebuilt: {', '.join(reasons)}." if reasons else "Reused: inputs, settings and code are unchanged."
    counts = {name: value for name, value in made.counts.items() if not name.startswith(IN_WORDS)}
    shown = {**counts, **read_shown(made.path, recorded, request.store.home), **restored}
    before = None if reasons else earlier_pictures(request, made)
    if before:
        shown.pop(PREVIEW, None)
        shown[PICTURES_IN] = dg.MetadataValue.dagster_run(before)
    else:
        pictures = shown_pictures(made.path, recorded)
        shown |= pictures
        if pictures and request.context.instance.has_run(request.context.run.run_id):
            shown[PICTURES_IN] = dg.MetadataValue.dagster_run(request.context.run.run_id)
    width = line_width([*ROWS, *shown])
    partition = request.context.partition_key if request.context.has_partition_key else None
    changed, defaults = settings_rows(stage, made, making.get("found", {}), width, partition)
    return {
        "reason": dg.MetadataValue.md(narrow(reason, width)),
        "made": dg.MetadataValue.timestamp(request.store.made_at(made)),
        "settings": dg.MetadataValue.md(changed),
        "run_config": dg.MetadataValue.md(block(run_config_of(stage, made, partition), width)),
        **{
            name: visible(four_digits(value), width)
            for name, value in zip(row_names(shown), shown.values(), strict=True)
        },
        **({"defaults": dg.MetadataValue.md(defaults)} if defaults else {}),
        "digest": visible(made.digest, width),
        "path": visible(dg.MetadataValue.path(str(request.store.home / made.place)), width),
        "mlflow_run": link(making["run"], making["address"]),
        "mlflow_run_id": visible(making["run"], width),
        "unchanged": not reasons,
    }


def earlier_pictures(request: Request[Any], made: Artefact) -> str | None:
    """Return the run that shows the pictures of this data version in Dagster's history, if that still has it."""
    instance = request.context.instance
    event = instance.get_latest_materialization_event(dg.AssetKey(request.name.partition("/")[0]))
    last = event.asset_materialization if event else None
    if last is None or (last.tags or {}).get("dagster/data_version") != made.digest:
        return None
    found = last.metadata.get(PICTURES_IN)
    run = str(found.value) if found else None
    return run if run and instance.has_run(run) else None


def line_width(names: Sequence[str]) -> int:
    """Return how many characters of a value are visible beside the longest of the names of rows."""
    longest = max(len(name) for name in names if not name.startswith("dagster/"))
    return int((TABLE - min(NAMES, longest * CHARACTER)) / CHARACTER)


def row_names(names: Collection[str]) -> list[str]:
    """Return names of rows, with a space behind each `.` of figures if one could not be broken to fit its column.

    Dagster breaks names at spaces and hyphens only, and draws what is too long over the next column.
    """
    longest = max((len(part) for name in names for part in re.split("[ -]", name)), default=0)
    # What is too long by less than the column's margin is seen all the same.
    if longest * CHARACTER <= NAMES + MARGIN:
        return list(names)
    return [re.sub(r"\.(?!png$)", ". ", name) for name in names]


def narrow(text: str, width: int, emphasis: str = "") -> str:
    """Return a text as lines of Markdown, each of at most `width` characters and in `emphasis`, such as `**`."""
    lines = textwrap.wrap(one_line(text), width, break_on_hyphens=False)
    escaped = [BEGINS.sub(r"\1\\", escape(line)) for line in lines]
    return "  \n".join(f"{emphasis}{line}{emphasis}" for line in escaped)


def link(text: str, address: str) -> dg.MarkdownMetadataValue:
    """Return a link with a short text, since an address would stretch the column."""
    return dg.MetadataValue.md(f"[{text[:8]}]({address})")


def visible(value: Any, width: int) -> Any:
    """Return a value that does not stretch the column.

    A wide table is behind a click, a paragraph has short lines, and a long word, path or digest can be broken.
    """
    if isinstance(value, str | dg.TextMetadataValue | dg.PathMetadataValue):
        text = value if isinstance(value, str) else value.value or ""
        long = any(len(word) > width for word in text.split())
        return dg.MetadataValue.md(breakable(text, width)) if long else value
    if isinstance(value, dg.MarkdownMetadataValue) and has_wide_table(value.value, width):
        return dg.MetadataValue.md(f"{value.value:{LONG}}")
    if not isinstance(value, dg.MarkdownMetadataValue) or any(part in value.value for part in ("\n", "](", "```")):
        return value
    # It is Markdown already: only what begins a line may mean something else now.
    lines = textwrap.wrap(value.value, width, break_on_hyphens=False, break_long_words=False)
    return dg.MetadataValue.md("  \n".join([*lines[:1], *(BEGINS.sub(r"\1\\", line) for line in lines[1:])]))


def breakable(text: str, width: int) -> str:
    """Return a text as Markdown of which every `width` characters can stand on a line, broken before a `/` if any."""
    found: list[str] = []
    # Where the last line begins in `found`, and where it could be broken.
    begin = place = 0
    for character in CHARACTERS.findall(BEGINS.sub(r"\1\\", escape(text))):
        if character == " ":
            begin = len(found) + 1
        elif len(found) - begin >= width:
            begin = place if place > begin else len(found)
            found.insert(begin, BREAK)
            begin += 1
        if character == "/":
            place = len(found)
        found.append(character)
    return "".join(found)


def has_wide_table(text: str, width: int) -> bool:
    """Return whether Markdown holds a table with a row of more than `width` characters."""
    return any(line.startswith("|") and len(line) > width for line in text.splitlines())


def block(text: str, width: int) -> str:
    """Return a text as a block of YAML in Markdown, which is behind a click if a line of it is too long."""
    found = f"```yaml\n{text}```"
    return found if all(len(line) <= width for line in text.splitlines()) else f"{found:{LONG}}"


def settings_rows(
    stage: Stage[Any], made: Artefact, found: Mapping[str, Any], width: int, partition: str | None = None
) -> tuple[str, str]:
    """Return as Markdown which settings differ from the defaults and what was found in the source; and the others."""
    lines, others = [], []
    defaults = defaults_of(stage, partition)
    for name, value in made.settings.items():
        # A name that is no setting any more has no default.
        default = defaults.get(name, value)
        if value == default:
            others.append(narrow(f"{name}: {plain(value)}", width))
        else:
            lines.append(narrow(f"{name}: {plain(value)}", width, "**"))
            lines.append(narrow(f"(default {plain(default)})", width))
    lines += [narrow(f"{name}: {plain(value)}", width) for name, value in found.items()]
    return "  \n".join(lines or [narrow("All have their defaults.", width)]), "  \n".join(others)


def defaults_of(stage: Stage[Any], partition: str | None = None) -> dict[str, Any]:
    """Return the settings that an asset has if nobody sets any, as a manifest has them."""
    return as_json(asdict(stage.defaults(partition)))


def plain(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def run_config_of(stage: Stage[Any], made: Artefact, partition: str | None = None) -> str:
    """Return the run configuration, as YAML, by which this artefact and what it reads upstream were made."""
    used = {made.name.partition("/")[0]: made.settings, **made.upstream_settings}
    ops = {}
    for asset in sorted(used.keys() & STAGES.keys(), key=list(STAGES).index):
        # What a partition decides is no setting of its run.
        defaults = defaults_of(STAGES[asset], partition if asset == stage.name else None)
        changed = {name: value for name, value in used[asset].items() if value != defaults.get(name, value)}
        if changed:
            ops[asset] = {"config": changed}
    return str(yaml.safe_dump({"ops": ops}, sort_keys=False, allow_unicode=True))


def columns_of(made: Artefact) -> dict[str, str]:
    """Return the type of each column of an artefact's table; empty for an artefact without one."""
    stage = STAGES.get(made.name.partition("/")[0])
    return column_types(stage.table(made.path)) if stage and stage.table else {}


def table_metadata(stage: Stage[Any], made: Artefact) -> dict[str, Any]:
    """Return the rows and columns of an artefact's table under Dagster's own names."""
    if not stage.table:
        return {}
    columns = [
        # The type of a nested column would make the table wider than the page.
        dg.TableColumn(name, f"{type.partition('<')[0]}<…>", type) if "<" in type else dg.TableColumn(name, type)
        for name, type in columns_of(made).items()
    ]
    return {
        "dagster/row_count": row_count(stage.table(made.path)),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
    }


def check_names(making: Making[Any]) -> None:
    """Raise ValueError if two things would be shown under one name, one of which would be lost."""
    names = [*ROWS, *making.counts, *making.metadata, *making.pictures]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{making.request.name} shows two things under one name: {', '.join(twice)}")


def four_digits(value: Any) -> Any:
    """Return a number with four significant digits, and anything else as it is."""
    if not isinstance(value, float) or isinstance(value, bool):
        return value
    return int(value) if value.is_integer() else float(f"{value:.4g}")
