"""Dagster's SQLite storage, created so that it is in place whole or not at all.

Dagster creates its databases in place, one statement at a time. Two processes that do so at once leave a database with
two revisions, and a process that is killed meanwhile leaves one without any; no later process can open either ("more
than one head"). Here a lock lets one process at a time open the storage, and what is missing is created in a temporary
folder and renamed into place. Named as the storage in `dagster.yaml`; costs 1 s on the first start and nothing after.
"""

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from adc_pipeline.core.artefacts import locked

# The folders of runs and events, and of schedules and sensors.
FOLDERS = ("history", "schedules")
LOCK = ".opening"


class AtomicSqliteStorage(DagsterSqliteStorage):
    """`DagsterSqliteStorage` whose first start can be interrupted, and can happen in several processes at once."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        folder = Path(base_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / LOCK
        lock.touch()
        with locked(lock, wait=True):
            for left in folder.glob(".new-*"):
                shutil.rmtree(left, ignore_errors=True)
            missing = [name for name in FOLDERS if not (folder / name).exists()]
            if missing:
                create(folder, missing)
            return cls(str(folder), inst_data)


def create(folder: Path, names: list[str]) -> None:
    """Create Dagster's databases in a temporary folder and rename those of `names` into place."""
    new = Path(mkdtemp(prefix=".new-", dir=folder))
    try:
        DagsterSqliteStorage.from_local(str(new)).dispose()
        for name in names:
            (new / name).rename(folder / name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
