"""Check a run's whole configuration before its first asset reads a byte: names, values, and what they need.

All assets of the run are checked, those of later stages too: a wrong setting of the evaluation would otherwise be
reported after hours of training. What a configuration sets of assets outside the run is for another job.
"""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.defs.run_config import WORKSPACE, configured, mapping
from adc_pipeline.defs.stage import SETTINGS, STAGES
from adc_pipeline.defs.workspace import Workspace, WorkspaceSettings

PARTS = ("ops", "resources", "execution", "loggers")


def look_ahead(context: dg.OpExecutionContext | dg.AssetExecutionContext, workspace: Workspace) -> None:
    """Check the configuration of a run once, when its first op begins; log what it sets of assets of other jobs."""
    if workspace.made:
        return
    unused = check_run(context.run.run_config, {node.name for node in context.job_def.nodes})
    # DuckDB knows what memory limit it accepts.
    with workspace.engine.connect():
        pass
    if unused:
        context.log.info(
            f"This run does not make {', '.join(unused)}: what its configuration sets of them is not used."
        )


def check_run(run_config: Mapping[str, Any], ops: Collection[str]) -> list[str]:
    """Check the configuration of a run of these ops; return the names that it configures and the run does not have.

    Raises PipelineError with everything that is wrong, in one sentence. A stage's own check of what its settings need
    (files, tools, the network) comes last.
    """
    found = mapping(run_config.get("ops"))
    problems = [*problems_of_names(run_config), *problems_of_shape(found)]
    settings = {}
    for name in [each for each in SETTINGS if each in ops]:
        try:
            settings[name] = read_settings(SETTINGS[name], configured(run_config, "ops", name), name)
        except PipelineError as error:
            problems.append(str(error))
    try:
        read_settings(WorkspaceSettings, configured(run_config, "resources", WORKSPACE), WORKSPACE)
    except PipelineError as error:
        problems.append(str(error))
    if problems:
        raise PipelineError(" ".join(problems))
    for name, value in settings.items():
        check = STAGES[name].check if name in STAGES else None
        if check:
            check(value)
    return [name for name in found if name not in ops]


def problems_of_names(run_config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each name in a run configuration that nothing has, with the nearest one that is known."""
    known = {"": PARTS, "ops": tuple(SETTINGS), "resources": (WORKSPACE,)}
    what = {"": "part of a run configuration", "ops": "asset", "resources": "resource"}
    return [
        f"{name} is no {what[part]}{did_you_mean(name, names)}."
        for part, names in known.items()
        for name in (mapping(run_config.get(part)) if part else run_config)
        if name not in names
    ]


def problems_of_shape(ops: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each asset whose settings do not stand below `config`."""
    return [
        f"{name}: put its settings below `config:`."
        for name, entry in ops.items()
        if entry is not None and (not isinstance(entry, Mapping) or set(entry) - {"config", "inputs", "outputs"})
    ]
