"""Run configuration: what the launchpad shows, and what an asset reads.

Dagster would check each value by the type that a YAML reader gave it, refuse a file that also configures assets of
other jobs, and end in a traceback. So Dagster's schema accepts every value: it tells the launchpad names, defaults and
descriptions, and `look_ahead` checks the values when a run begins. An asset reads its settings from the run's own
configuration, since a job's config mapping does not know which of the job's assets a run selects.
"""

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._config import validate_config
from dagster_shared.check import CheckError

from adc_pipeline.core.placement import Placement
from adc_pipeline.core.run_configuration import configured, mapping, merged
from adc_pipeline.core.settings import Settings, declared
from adc_pipeline.defs.console import CONSOLE
from adc_pipeline.defs.presets import preset_config
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


def job_config(ops: Mapping[str, type[Settings]], preset: Mapping[str, Any] | None = None) -> dg.ConfigMapping:
    """Return the configuration of a job of these ops, which accepts a file that serves other jobs too.

    The launchpad begins with the preset. `given_config` puts what a run gives over it.
    """

    def for_dagster(given: Mapping[str, Any]) -> dict[str, Any]:
        # The workspace reads the settings of the other resources itself.
        values = mapping(configured(given, "resources", WORKSPACE))
        workspace = {name: value for name, value in values.items() if name in declared(WorkspaceSettings)}
        # What Dagster would refuse with a stack trace, `look_ahead` refuses with a sentence.
        rest = {part: given[part] for part in READ_BY_DAGSTER if given.get(part)}
        rest = {part: value for part, value in rest.items() if is_read_by_dagster(part, value)}
        # Dagster prints every event unless a logger is configured.
        return {"loggers": {CONSOLE: {}}, "resources": {WORKSPACE: {"config": workspace}}, **rest}

    shown = {
        "ops": optional({name: settings_below(kind) for name, kind in ops.items()}, (preset or {}).get("ops")),
        "resources": optional({name: settings_below(kind) for name, kind in RESOURCES.items()}),
    }
    return JudgedLater(for_dagster, dg.Permissive(shown))


class JudgedLater(dg.ConfigMapping):
    """A config mapping that also takes what its schema refuses, such as `ops: 5`, which `look_ahead` refuses.

    Dagster would refuse it with a stack trace. The launchpad, which marks the place, still does.
    """

    def resolve_from_unvalidated_config(self, config: Any) -> Any:
        try:
            return super().resolve_from_unvalidated_config(config)
        except (dg.DagsterInvalidConfigError, CheckError):
            return self.config_fn(config)


READ_BY_DAGSTER: Mapping[str, dict[str, Any]] = {
    "execution": {"config": dg.Field(dg.in_process_executor.config_schema.config_type, is_required=False)},
    "loggers": {
        CONSOLE: dg.Field(
            {"config": dg.Field(dg.colored_console_logger.config_schema.config_type, is_required=False)},
            is_required=False,
        )
    },
}


def is_read_by_dagster(part: str, value: Any) -> bool:
    """Return whether Dagster accepts a part of a run configuration that it reads itself."""
    if not value:
        return True
    if not validate_config(READ_BY_DAGSTER[part], value).success:
        return False
    # Dagster looks at the level when it makes the logger.
    level = mapping(mapping(mapping(value).get(CONSOLE)).get("config")).get("log_level", "INFO")
    return part != "loggers" or str(level).upper() in logging.getLevelNamesMapping()


def settings_below(kind: type[Settings]) -> dg.Field:
    return optional({"config": dg.Field(dg.Noneable(schema(kind)), is_required=False)})


def optional(entries: dict[str, dg.Field], default: Any = None) -> dg.Field:
    """Return a part of a run configuration, which may be empty, as where all of its lines are commented out."""
    begins = {"default_value": default} if default else {}
    return dg.Field(dg.Noneable(dg.Permissive(entries)), is_required=False, **begins)


def given_config(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Mapping[str, Any]:
    """Return the configuration of a run, over the preset of its job if it has one.

    Dagster's launchpad begins with the preset. A command gives only its own file, or nothing.
    """
    return merged(preset_config(context.job_name), context.run.run_config)
