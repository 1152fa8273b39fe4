"""Check a run's whole configuration before its first asset reads a byte: names, values, and what they need.

All assets of the run are checked, those of later stages too: a wrong setting of the evaluation would otherwise be
reported after hours of training. What a configuration sets of assets outside the run is for another job.
"""

from collections.abc import Collection, Mapping
from typing import Any

from adc_pipeline.core.cluster.connection import connected
from adc_pipeline.core.cluster.process import RESOURCE
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.run_configuration import PARTS, configured, mapping, problems_of_shape
from adc_pipeline.core.settings import Settings, as_shown, declared
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.defs.making import Context
from adc_pipeline.defs.run_config import RESOURCES, given_config, is_read_by_dagster
from adc_pipeline.defs.stage import SETTINGS, STAGES, TRAINING_POOL
from adc_pipeline.defs.workspace import Workspace


def look_ahead(context: Context, workspace: Workspace) -> None:
    """Check the configuration of a run once, when its first op begins; log what it sets of assets of other jobs."""
    if workspace.made:
        return
    ops = {node.name for node in context.job_def.nodes}
    settings = check_values(given_config(context), ops)
    if workspace.engine.executor == "ray":
        connected()
    if workspace.placement.on_cluster and any(STAGES[name].pool == TRAINING_POOL for name in ops if name in STAGES):
        connected(RESOURCE)
    # DuckDB knows what memory limit it accepts.
    with workspace.engine.connect():
        pass
    for name, values in settings.items():
        if name in STAGES and (check := STAGES[name].check):
            check(values)
    if unused := not_of(ops, context.run.run_config):
        context.log.info(
            f"This run does not make {', '.join(unused)}: what its configuration sets of them is not used."
        )


def check_values(run_config: Mapping[str, Any], ops: Collection[str]) -> dict[str, Settings]:
    """Return the settings of a run's ops by name; raise PipelineError for names and values that cannot work."""
    problems = [*problems_of_parts(run_config), *problems_of_dagster(run_config)]
    problems += problems_of_shape(run_config, SETTINGS, RESOURCES)
    settings: dict[str, Settings] = {}
    for name in [each for each in SETTINGS if each in ops]:
        try:
            settings[name] = read_settings(SETTINGS[name], configured(run_config, "ops", name), name)
        except PipelineError as error:
            problems.append(str(error))
    for name, kind in RESOURCES.items():
        try:
            read_settings(kind, configured(run_config, "resources", name), name)
        except PipelineError as error:
            problems.append(str(error))
    problems += problems_of_others(run_config, ops)
    if problems:
        raise PipelineError(" ".join(dict.fromkeys(problems)))
    return settings


def not_of(ops: Collection[str], run_config: Mapping[str, Any]) -> list[str]:
    """Return the names of other jobs' assets and ops that a run configuration sets."""
    return [name for name in mapping(run_config.get("ops")) if name not in ops]


def problems_of_parts(run_config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each name at the top of a run configuration that is no part of one."""
    return [
        f"{name} is no part of a run configuration{did_you_mean(name, PARTS) or place_of(name)}."
        for name in run_config
        if name not in PARTS
    ]


def place_of(name: Any) -> str:
    """Return where a name belongs that stands at the top of a run configuration, as the end of a sentence."""
    for part, names in (("ops", SETTINGS), ("resources", RESOURCES)):
        if name in names:
            return f": put it below `{part}:`"
    if having := [asset for asset, kind in SETTINGS.items() if name in declared(kind)]:
        return f": put it below `config:` of an asset in `ops:` ({' or '.join(having[:3])})"
    return f": use {', '.join(PARTS)}"


def problems_of_dagster(run_config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part that Dagster itself reads, and would refuse with a stack trace."""
    execution, loggers = run_config.get("execution"), run_config.get("loggers")
    problems = []
    if not is_read_by_dagster("execution", execution):
        problems.append(
            f"`execution` is {as_shown(execution)}; remove it, since a run executes its steps in one process."
        )
    if not is_read_by_dagster("loggers", loggers):
        problems.append(
            f"`loggers` is {as_shown(loggers)}; use {{console: {{config: {{log_level: DEBUG}}}}}}, with a level of"
            " Python's logging, or remove it."
        )
    return problems


def problems_of_others(run_config: Mapping[str, Any], ops: Collection[str]) -> list[str]:
    """Return a sentence for each asset outside the run with a setting that it does not have.

    Its values are judged by the job that makes it.
    """
    problems = []
    for name in not_of(ops, run_config):
        known = declared(SETTINGS[name]) if name in SETTINGS else {}
        given = [each for each in mapping(configured(run_config, "ops", name)) if each not in known]
        if known and given:
            unknown = ", ".join(f"{each}{did_you_mean(each, known)}" for each in given)
            problems.append(f"{name} has no setting {unknown}.")
    return problems
