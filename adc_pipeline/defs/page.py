"""What an asset's page in Dagster shows: why it was made or reused, by which settings, and what it holds.

The rows come in this order, which Dagster keeps: `reason`, `settings`, `run_config`, then the stage's own figures and
pictures, then where things are. Text, numbers and links are readable in the row itself; Dagster shows Markdown and
tables behind a click, so what answers a question at once is text. Numbers have four significant digits, and Dagster
plots them over an asset's materializations.

Dagster stores metadata twice for each materialization. So pictures have few colours (`pictures.py`), and a reused
artefact whose pictures an earlier materialization shows does not repeat them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import yaml

from adc_pipeline.core.artefacts import Artefact, read_making
from adc_pipeline.core.columns import column_types, row_count
from adc_pipeline.core.markdown import one_line
from adc_pipeline.core.settings import declared
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.shown import read_shown, shown_pictures
from adc_pipeline.defs.stage import SETTINGS, STAGES, Stage

# The run whose materialization has the pictures of this data version.
PICTURES_IN = "pictures_in_run"
# Rows that the frame writes.
ROWS = (
    "reason", "made", "settings", "run_config", "digest", "path", "mlflow_run", "mlflow_run_id", "unchanged",
    PICTURES_IN,
)  # fmt: skip


def page_of(
    stage: Stage[Any],
    request: Request[Any],
    made: Artefact,
    reasons: Sequence[str],
    restored: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metadata of a materialization; `reasons` are empty if the artefact is reused."""
    making, at = read_making(made), request.store.made_at(made)
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    reason = f"Rebuilt: {', '.join(reasons)}." if reasons else f"Reused: inputs, settings and code are those of {when}."
    shown = {**made.counts, **read_shown(made.path, request.store.home), **restored}
    before = None if reasons else earlier_pictures(request, made)
    pictures = shown_pictures(made.path)
    if pictures and before:
        shown[PICTURES_IN] = dg.MetadataValue.dagster_run(before)
    else:
        shown |= pictures
        if pictures and request.context.instance.has_run(request.context.run.run_id):
            shown[PICTURES_IN] = dg.MetadataValue.dagster_run(request.context.run.run_id)
    return {
        "reason": reason,
        "made": dg.MetadataValue.timestamp(at),
        "settings": settings_text(stage, made, making.get("found", {})),
        "run_config": dg.MetadataValue.md(f"```yaml\n{run_config_of(stage, made)}```"),
        **{name: four_digits(value) for name, value in shown.items()},
        "digest": made.digest,
        "path": dg.MetadataValue.path(str(request.store.home / made.place)),
        "mlflow_run": dg.MetadataValue.url(making["address"]),
        "mlflow_run_id": making["run"],
        "unchanged": not reasons,
    }


def earlier_pictures(request: Request[Any], made: Artefact) -> str | None:
    """Return the run that shows the pictures of this data version in Dagster's history, if that still has it."""
    instance = request.context.instance
    event = instance.get_latest_materialization_event(request.context.asset_key)
    last = event.asset_materialization if event else None
    if last is None or (last.tags or {}).get("dagster/data_version") != made.digest:
        return None
    found = last.metadata.get(PICTURES_IN)
    run = str(found.value) if found else None
    return run if run and instance.has_run(run) else None


def settings_text(stage: Stage[Any], made: Artefact, found: Mapping[str, Any]) -> str:
    """Return what differs from the defaults, then what was found in the source, then the other settings."""
    known = declared(stage.settings)
    changed: list[tuple[str, Any, Any]] = []
    others: list[tuple[str, Any, Any]] = []
    for name, value in made.settings.items():
        default = known[name].default if name in known else value
        default = list(default) if isinstance(default, tuple) else default
        (changed if value != default else others).append((name, value, default))
    parts = [f"{name}: {plain(value)} (default {plain(default)})" for name, value, default in changed]
    parts += [f"{name}: {plain(value)}" for name, value in found.items()]
    text = "; ".join(parts) if parts else "all defaults"
    rest = "; ".join(f"{name}: {plain(value)}" for name, value, _ in others)
    return one_line(f"{text}. Defaults: {rest}." if others else f"{text}.")


def plain(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def run_config_of(stage: Stage[Any], made: Artefact) -> str:
    """Return the run configuration, as YAML, by which this artefact and what it reads upstream were made."""
    used = {made.name.partition("/")[0]: made.settings, **made.upstream_settings}
    ops = {}
    for name in sorted(used, key=list(SETTINGS).index):
        known = declared(SETTINGS[name])
        changed = {
            key: value
            for key, value in used[name].items()
            if key in known and value != (list(known[key].default) if known[key].kind is tuple else known[key].default)
        }
        if changed:
            ops[name] = {"config": changed}
    return str(yaml.safe_dump({"ops": ops}, sort_keys=False, allow_unicode=True))


def columns_of(made: Artefact) -> dict[str, str]:
    """Return the type of each column of an artefact's table; empty for an artefact without one."""
    stage = STAGES.get(made.name.partition("/")[0])
    return column_types(stage.table(made.path)) if stage and stage.table else {}


def table_metadata(stage: Stage[Any], made: Artefact) -> dict[str, Any]:
    """Return the rows and columns of an artefact's table under Dagster's own names."""
    if not stage.table:
        return {}
    columns = [dg.TableColumn(name, type) for name, type in columns_of(made).items()]
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
