"""Dagster's SQLite storage, created so that it is in place whole or not at all.

Dagster creates its databases in place, one statement at a time. Two processes that do so at once leave a database with
two revisions, and a process that is killed meanwhile leaves one without any; no later process can open either ("more
than one head"). Here a lock lets one process at a time open the storage, and what is missing is created in a temporary
folder and renamed into place. Named as the storage in `dagster.yaml`; costs 1 s on the first start and nothing after.

Databases that an older version of Dagster wrote are copied and then upgraded; `dagster instance migrate` upgrades them
without a copy. Whether they are outdated is looked up once for each version of Dagster.
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import click
import dagster as dg
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.exc import SQLAlchemyError

from adc_pipeline.core.atomic import atomic_file, atomic_folder, give_usual_mode
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.store.links import locked
from adc_pipeline.defs.compact_storage import OPEN, Events, Runs
from adc_pipeline.tracking.database import REPAIR, connect, copy, sentence

# The folders of runs and events, and of schedules and sensors.
FOLDERS = ("history", "schedules")
LOCK = ".opening"
# The version of Dagster whose tables the databases are known to have.
VERSION = ".version"


class HistoryError(PipelineError, click.ClickException):
    """A database of Dagster's that cannot be opened; Dagster's own commands print the sentence alone."""


class AtomicSqliteStorage(DagsterSqliteStorage):
    """`DagsterSqliteStorage` whose first start can be interrupted, and can happen in several processes at once."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        folder = Path(base_dir) / FOLDERS[0]
        self._run_storage = Runs(create_db_conn_string(str(folder), "runs"))
        self._event_log_storage = Events(str(folder / "runs"))

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
                (folder / VERSION).unlink(missing_ok=True)
            note = folder / VERSION
            with damage_explained(folder):
                storage = cls(str(folder), inst_data)
                if not note.is_file() or note.read_text(errors="replace") != dg.__version__:
                    storage.upgrade_outdated(folder)
                    with atomic_file(note) as new:
                        new.write_text(dg.__version__)
            return storage

    def upgrade_outdated(self, folder: Path) -> None:
        """Bring databases of an older Dagster to this version's tables; keep a copy and say so."""
        storages: tuple[Any, ...] = self.run_storage, self.event_log_storage, self.schedule_storage
        revisions = [(storage, *storage.alembic_version()) for storage in storages]
        outdated = [storage for storage, found, newest in revisions if found != newest]
        if not outdated:
            return
        refuse_newer(folder, [found for _, found, _ in revisions])
        kept = unused(folder.with_name(f"{folder.name}-before-{dg.__version__}"))
        with atomic_folder(kept) as partial:
            for path in (path for name in FOLDERS for path in (folder / name).rglob("*.db")):
                new = partial / path.relative_to(folder)
                new.parent.mkdir(parents=True, exist_ok=True)
                copy(path, new)
        logging.getLogger(__name__).warning(
            "Dagster's databases in %s are upgraded to Dagster %s; a copy is in %s. To go back, install the earlier"
            " version and move the copy's folders to their place.",
            folder,
            dg.__version__,
            kept,
        )
        for storage in outdated:
            storage.upgrade()


def refuse_newer(folder: Path, revisions: Iterable[str | None]) -> None:
    """Raise HistoryError for a revision that this version of Dagster does not know, that of a newer one."""
    config = Config()
    config.set_main_option("script_location", ALEMBIC_SCRIPTS_LOCATION)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if newer := sorted({revision for revision in revisions if revision} - known):
        raise HistoryError(
            f"Dagster's databases in {folder} cannot be upgraded to Dagster {dg.__version__}, which does not know their"
            f" revision {', '.join(newer)}, and are as they were: install the version of Dagster that wrote them."
        )


def unused(path: Path) -> Path:
    """Return the path, or the first with a number behind it that nothing has: the copy of an earlier upgrade stays."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(each for each in chain([path], numbered) if not os.path.lexists(each))


@contextmanager
def damage_explained(folder: Path) -> Iterator[None]:
    """Raise HistoryError for a database that SQLite cannot open, and for one whose tables SQLAlchemy cannot use."""
    try:
        for path in databases(folder):
            # Dagster opens some of them later. Costs 0.2 ms each, whatever their size.
            with closing(connect(path)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield
    except sqlite3.Error as error:
        raise HistoryError(sentence(path, error, "Dagster")) from error
    except SQLAlchemyError as error:
        raise HistoryError(f"A Dagster database in {folder} cannot be used ({first_line(error)}): {REPAIR}.") from error


def databases(folder: Path) -> list[Path]:
    """Return the databases of all runs together; each run has another one in `history/runs`."""
    found = (
        folder / "history" / "runs.db",
        folder / "history" / "runs" / "index.db",
        folder / "schedules" / "schedules.db",
    )
    return [path for path in found if os.path.lexists(path)]


def create(folder: Path, names: list[str]) -> None:
    """Create Dagster's databases in a temporary folder and rename those of `names` into place."""
    new = Path(mkdtemp(prefix=".new-", dir=folder))
    try:
        Events(str(new / FOLDERS[0] / "runs")).dispose()
        DagsterSqliteStorage.from_local(str(new)).dispose()
        # SQLite writes the logs into the databases and removes them by name.
        OPEN.close()
        give_usual_mode(*new.rglob("*"))
        for name in names:
            (new / name).rename(folder / name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
