"""Look up in MLflow's SQLite database whether a run is as its artefact needs it, without MLflow.

Most runs of a job find most assets up to date, and importing MLflow is then half of what they cost (2 s of processor
time). So the common answer, "nothing is missing", comes from one query. Any other state of the database, and any
other place of it, is for MLflow's own client (`tracking.restoration`).
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking.address import sqlite_file
from adc_pipeline.tracking.artifacts import local_path
from adc_pipeline.tracking.database import COMPANIONS, connect
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import ASSET, DIGEST, PARENT

QUERY = """
SELECT experiment_id, runs.artifact_uri, experiments.artifact_location
FROM runs JOIN experiments USING (experiment_id)
WHERE runs.run_uuid = ? AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
  AND experiments.name = ? AND experiments.lifecycle_stage = 'active'
"""
TAGS = "SELECT key, value FROM tags WHERE run_uuid = ?"
DELETED = "SELECT count(*) FROM runs WHERE run_uuid = ? AND lifecycle_stage != 'active'"


def is_intact(tracking: Tracking, made: Artefact, record: Mapping[str, Any]) -> bool:
    """Return whether the run of an artefact, which its `making.json` names, is certainly there.

    That is finished, in the experiment, with its tags and files, and below no deleted parent.
    """
    file = sqlite_file(tracking.uri)
    # A journal that a killed process left has to be played back first.
    if file is None or any(file.with_name(file.name + each).exists() for each in COMPANIONS):
        return False
    try:
        with closing(connect(file, "ro")) as connection:
            found = connection.execute(QUERY, (record["run"], tracking.names.experiment)).fetchone()
            tags = dict(connection.execute(TAGS, (record["run"],)).fetchall())
            (deleted,) = connection.execute(DELETED, (tags.get(PARENT, ""),)).fetchone()
    except sqlite3.Error:
        return False
    if found is None or deleted or (tags.get(ASSET), tags.get(DIGEST)) != made.key:
        return False
    if not record.get("tags", {}).keys() <= tags.keys():
        return False
    experiment, files, location = found
    if tracking.run_address(str(experiment), record["run"]) != record["address"]:
        return False
    return is_here(tracking, location) and all(exists(files, name) for name in record.get("artifacts", {}))


def is_here(tracking: Tracking, location: str) -> bool:
    """Return whether an experiment keeps its artifacts in the folder of this database, which exists."""
    local = urlsplit(location).scheme in ("", "file") and tracking.artifacts is not None
    return local and local_path(location) == local_path(tracking.artifacts or "") and local_path(location).is_dir()


def exists(location: str, name: str) -> bool:
    return Path(local_path(location), name).exists()
