"""Make a run that a command started belong to this code location, as the runs that Dagster's pages start do.

`dagster job execute` and `adc run` load the code by themselves, so that Dagster stores their runs without an origin:
the job's page, the overview and the timeline filter by it and leave such runs out, and *Re-execute* ends in HTTP 500.
The origin consists of two names, which the pages look up in their own workspace. They are the names that
workspace.yaml, `[tool.dg]` and deploy/workspace.yaml give. Costs 5 ms on SQLite.

Dagster 1.13 exports neither the origin's classes nor a method that sets it, so this file imports from `dagster._core`.
`dagster run migrate-repository` stores an origin by the same call.
"""

from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

LOCATION = "adc_pipeline.definitions"
# What Dagster calls the repository of a module with one `Definitions`.
REPOSITORY = "__repository__"
# What Dagster calls the folder that it makes where DAGSTER_HOME is not set, and removes when the command ends.
TEMPORARY = ".tmp_dagster_home_"


def mark_as_run_of_this_location(instance: dg.DagsterInstance, run_id: str) -> None:
    """Store the origin of a run that has none. Call when the run begins; a run that Dagster launched is unchanged."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin is not None:
        return
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY)
    instance.add_run_tags(run_id, {".dagster/repository": repository.get_label(), "dagster/code_location": LOCATION})
    tagged = instance.get_run_by_id(run_id)
    if tagged is not None:
        instance.run_storage.replace_job_origin(tagged, repository.get_job_origin(run.job_name))


def is_forgotten(instance: dg.DagsterInstance) -> bool:
    """Return whether Dagster keeps nothing of a run: without DAGSTER_HOME and a dagster.yaml in the working folder."""
    return Path(instance.root_directory).name.startswith(TEMPORARY) and not Path("dagster.yaml").exists()
