"""Run configuration: what the launchpad shows, and what an asset reads.

Dagster would check each value by the type that a YAML reader gave it, refuse a file that also configures assets of
other jobs, and end in a traceback. So Dagster's schema accepts every value: it tells the launchpad names, defaults and
descriptions, and `look_ahead` checks the values when a run begins. An asset reads its settings from the run's own
configuration, since a job's config mapping does not know which of the job's assets a run selects.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from adc_pipeline.core.placement import Placement
from adc_pipeline.core.settings import Settings, declared
from adc_pipeline.defs.console import CONSOLE
from adc_pipeline.defs.workspace_settings import ShardSettings, WorkspaceSettings
from adc_pipeline.tracking.settings import MlflowSettings


def schema(kind: type[Settings]) -> dg.Permissive:
    """Return the schema of the settings of an asset or an op."""
    return dg.Permissive(
        {
            each.name: dg.Field(
                dg.Any,
                default_value=list(each.default) if isinstance(each.default, tuple) else each.default,
                is_required=False,
                description=each.help,
            )
            for each in declared(kind).values()
        }
    )


# The resources that every asset uses.
WORKSPACE = "workspace"
RESOURCES: Mapping[str, type[Settings]] = {
    WORKSPACE: WorkspaceSettings,
    "mlflow": MlflowSettings,
    "shards": ShardSettings,
    "training": Placement,
}


def job_config(ops: Mapping[str, type[Settings]]) -> dg.ConfigMapping:
    """Return the configuration of a job of these ops, which accepts a file that serves other jobs too."""

    def for_dagster(given: Mapping[str, Any]) -> dict[str, Any]:
        # The workspace reads the settings of the other resources itself.
        values = mapping(configured(given, "resources", WORKSPACE))
        workspace = {name: value for name, value in values.items() if name in declared(WorkspaceSettings)}
        rest = {part: given[part] for part in ("execution", "loggers") if given.get(part)}
        # Dagster prints every event unless a logger is configured.
        return {"loggers": {CONSOLE: {}}, "resources": {WORKSPACE: {"config": workspace}}, **rest}

    shown = {
        "ops": optional({name: settings_below(kind) for name, kind in ops.items()}),
        "resources": optional({name: settings_below(kind) for name, kind in RESOURCES.items()}),
    }
    return dg.ConfigMapping(for_dagster, dg.Permissive(shown))


def settings_below(kind: type[Settings]) -> dg.Field:
    return optional({"config": dg.Field(schema(kind), is_required=False)})


def optional(entries: dict[str, dg.Field]) -> dg.Field:
    return dg.Field(dg.Permissive(entries), is_required=False)


def given_config(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Mapping[str, Any]:
    """Return the configuration of a run, over the preset of its job if it has one.

    Dagster's launchpad begins with the preset. A command gives only its own file, or nothing.
    """
    return merged(context.job_def.run_config or {}, context.run.run_config)


def merged(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one, in which `given` has precedence."""
    both = {name: merged(preset[name], given[name]) for name in preset.keys() & given.keys()
            if isinstance(preset[name], Mapping) and isinstance(given[name], Mapping)}  # fmt: skip
    return {**preset, **given, **both}


def configured(run_config: Mapping[str, Any], part: str, name: str) -> Any:
    """Return what a run configuration sets for an op or a resource, unchecked."""
    return mapping(mapping(run_config.get(part)).get(name)).get("config")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that is a mapping; an empty one for any other."""
    return value if isinstance(value, Mapping) else {}
