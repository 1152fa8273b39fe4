"""Create and upgrade MLflow's SQLite database so that it is in place whole or not at all.

MLflow creates and migrates the tables in the file itself, one statement at a time: a process that is killed meanwhile,
or a full disk, leaves a file that no later run can open, and two processes that start at once migrate the same tables.
Here the tables are created in a temporary file, or in a copy of the old one, which is renamed into place, and a lock on
the folder lets one process do so at a time. An existing database costs one query (1 ms).

Creating the tables takes 2 to 6 s. The result is always the same, so the user's cache folder keeps a copy for each
version of MLflow.
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from adc_pipeline.core.atomic import atomic_file, give_usual_mode
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.named_files import file_problem, kind_problem
from adc_pipeline.core.refused_writes import answer_to_write, reason
from adc_pipeline.core.shards import link_or_copy
from adc_pipeline.core.store.links import locked, sync
from adc_pipeline.core.user_cache import cache_folder

# In ADC_HOME: the database, and the folder of MLflow's artifacts.
DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"
# What SQLite writes beside a database. A journal that outlives its database would be played back into the next one.
COMPANIONS = ("-journal", "-wal", "-shm")
# By table, what creating a database writes: the server of an interrupted start has the experiment `Default`.
ROWS_OF_A_NEW_DATABASE = {"alembic_version": 1, "workspaces": 1, "experiments": 1}
# A database without tables that was written to a moment ago may be one that a server of MLflow's is creating.
SECONDS_TO_SETTLE = 2.0
SECONDS_FOR_A_LOCK = 20.0

REPAIR = "restore it from a backup, or run `adc repair`, which begins a new one and says what is lost"
# What is wrong and what to do, by the beginning of the name of SQLite's error.
SENTENCES = {
    "SQLITE_CORRUPT": ("is damaged", REPAIR),
    "SQLITE_NOTADB": ("is damaged, it is no SQLite file", REPAIR),
    "SQLITE_IOERR": ("cannot be read or written", "check the disk, then " + REPAIR),
    "SQLITE_FULL": ("cannot grow, since the disk is full", "make room, or point ADC_HOME to another disk"),
    "SQLITE_READONLY": ("cannot be written to", "give this user write access to the file and its folder"),
    "SQLITE_CANTOPEN": (
        "cannot be opened",
        "check that it is a file that this user may write to",
    ),
    "SQLITE_BUSY": ("is locked by another program", "end what uses it, or wait, and try again"),
}
# What SQLite also says where the disk, and not the file, is the cause.
BY_DISK = ("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


@contextmanager
def prepared(path: Path) -> Iterator[None]:
    """Create the database at `path`, or upgrade it to this version of MLflow, and hold its lock for the block.

    Raises PipelineError for a file that is damaged, or that another version of MLflow wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = real_path(path)
    with locked(path.parent, wait=True):
        with explained(path):
            if not is_ready(path):
                settle(path)
            if not is_ready(path):
                with temporary_beside(path) as new:
                    if has_content(path):
                        upgraded_copy(path, new)
                    else:
                        create(new)
                    replace(path, new)
        yield


def real_path(path: Path) -> Path:
    """Return where a database lies if a link leads to it, so that the file is replaced, and not the link.

    Raise PipelineError for a link that leads nowhere, as to a disk that is not mounted.
    """
    if path.is_symlink() and not path.exists():
        raise PipelineError(f"The database {path} {file_problem(path)}.")
    return path.resolve()


def is_ready(path: Path) -> bool:
    """Return whether the database exists and has the tables of this version of MLflow."""
    return path.exists() and revision(path) == newest_revision()


def revision(path: Path) -> str:
    """Return the revision of a database's tables; empty if they were not completed."""
    # Opened for writing, since a journal that a killed process left has to be played back first.
    with closing(connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall() if found else []
    return str(rows[0][0]) if len(rows) == 1 else ""


def has_content(path: Path) -> bool:
    """Return whether a database holds a row that creating it does not write, so that replacing it would lose something.

    That includes the tables of another program, which `upgraded_copy` keeps.
    """
    if not path.exists():
        return False
    with closing(connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (table,) in tables.fetchall():
            quoted = table.replace('"', '""')
            rows = connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 2').fetchall()  # noqa: S608
            if len(rows) > ROWS_OF_A_NEW_DATABASE.get(table, 0):
                return True
            # `Default` may have been purged, and the one that is there be somebody's own.
            if table == "experiments":
                only = connection.execute("SELECT * FROM experiments").fetchone()
                if only is not None and "Default" not in only:
                    return True
    return False


def is_intact(path: Path) -> bool:
    """Return whether SQLite finds the pages of a database in order (1 ms for a new one)."""
    with closing(connect(path)) as connection:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])


def lacking(path: Path) -> list[str]:
    """Return the columns that a database with MLflow's newest tables lacks; another program may have dropped them."""
    with temporary_beside(path) as new:
        create(new)
        return sorted(columns(new) - columns(path))


def columns(path: Path) -> set[str]:
    """Return all columns of a database, as `TABLE.COLUMN`."""
    query = """
        SELECT tables.name || '.' || columns.name
        FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'
    """
    with closing(connect(path)) as connection:
        return {name for (name,) in connection.execute(query)}


def connect(path: Path, mode: Literal["rw", "ro"] = "rw") -> sqlite3.Connection:
    """Open an existing database; PipelineError for what is no regular file."""
    refuse_special_file(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=SECONDS_FOR_A_LOCK)


def refuse_special_file(path: Path) -> None:
    """Raise PipelineError for a FIFO, which SQLite would wait for, a device and the like in place of a database."""
    # Not by opening it: another process may be writing its first bytes.
    if path.exists() and not path.is_dir() and (problem := kind_problem(path.stat().st_mode)):
        raise PipelineError(f"The database {path} {problem}.")


def settle(path: Path) -> None:
    """Wait while another program writes an unfinished database."""
    for _ in range(60):
        if not path.exists() or time.time() - path.stat().st_mtime > SECONDS_TO_SETTLE or is_ready(path):
            return
        time.sleep(0.5)


def create(path: Path) -> None:
    """Create a database with MLflow's tables at `path`, from the user's cache if it has one."""
    cached = cache_folder() / f"mlflow-{version('mlflow')}-{newest_revision()}.db"
    with suppress(OSError, sqlite3.Error):
        shutil.copyfile(cached, path)
        if is_ready(path) and is_intact(path) and not has_content(path):
            return
    path.unlink(missing_ok=True)
    upgrade(path)
    # A cache that cannot be written costs the next ADC_HOME some seconds.
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Other processes fill the same cache, without this folder's lock.
        with atomic_file(cached) as new:
            shutil.copyfile(path, new)


def copy(path: Path, new: Path) -> None:
    """Copy a database that nobody writes to meanwhile; SQLite's own backup includes its journal."""
    with closing(connect(path)) as writer, closing(connect(path)) as source, closing(sqlite3.connect(new)) as target:
        writer.execute("BEGIN IMMEDIATE")
        source.backup(target)


def upgraded_copy(path: Path, new: Path) -> None:
    """Copy a database and upgrade the copy; PipelineError if this MLflow cannot upgrade it."""
    copy(path, new)
    try:
        upgrade(new)
    except Exception as error:
        raise PipelineError(
            f"The MLflow database {path} cannot be upgraded to MLflow {version('mlflow')} ({first_line(error)}), and is"
            " as it was: install the version of MLflow that wrote it."
        ) from error
    kept = path.with_name(f"{path.name}.before-{newest_revision()}")
    kept.unlink(missing_ok=True)
    link_or_copy(path, kept)
    logging.getLogger(__name__).warning(
        "The MLflow database %s is upgraded to MLflow %s; a copy from before is %s. To go back, install the earlier"
        " version and move the copy to its place.",
        path,
        version("mlflow"),
        kept,
    )


@cache
def refuse_other_tables(uri: str, shown: str) -> None:
    """Raise PipelineError if the tables at an address of PostgreSQL or MySQL are those of another version of MLflow.

    MLflow would refuse some with a trace and migrate others without a word, and no copy of such a database can be made
    here. One that has no tables yet is MLflow's to create. `shown` is the address without secrets.
    """
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    if found in (None, newest_revision()):
        return
    what = f"The MLflow database {shown} has the tables of another version of MLflow (revision {found})"
    try:
        ScriptDirectory.from_config(_get_alembic_config("sqlite://")).get_revision(found)
    except CommandError as error:
        raise PipelineError(f"{what}, newer than {version('mlflow')}: install the version that wrote it.") from error
    raise PipelineError(
        f"{what}, older than {version('mlflow')}: make a backup (`pg_dump`), then run `mlflow db upgrade ADDRESS`; to"
        " go back, restore the backup and install the earlier version."
    )


def upgrade(path: Path) -> None:
    """Run `mlflow db upgrade`, which creates MLflow's tables in a database that has none."""
    from mlflow.db import commands

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    commands.main(["upgrade", f"sqlite:///{path.absolute()}"], standalone_mode=False)


def replace(path: Path, new: Path) -> None:
    """Rename a new database to `path`; it reaches the disk first."""
    give_usual_mode(new)
    sync(new)
    for companion in COMPANIONS:
        path.with_name(path.name + companion).unlink(missing_ok=True)
    new.replace(path)
    sync(path.parent)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an unused path in the folder of `path`; remove what is there when the block ends."""
    for left in path.parent.glob(f".{path.name}-new-*"):
        left.unlink(missing_ok=True)
    new = path.with_name(f".{path.name}-new-{os.getpid()}")
    try:
        yield new
    finally:
        for companion in ("", *COMPANIONS):
            new.with_name(new.name + companion).unlink(missing_ok=True)


@cache
def newest_revision() -> str:
    """Return the revision that this version of MLflow's tables have. MLflow has no public function for it."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into sentences."""
    try:
        yield
    except sqlite3.Error as error:
        raise PipelineError(sentence(path, error)) from error


def sentence(path: Path, error: sqlite3.Error, owner: str = "MLflow") -> str:
    """Return what is wrong with a database of `owner`, and what to do, for an error of SQLite."""
    return f"The {owner} database {path} {fault(error, path.parent)}."


def fault(error: BaseException, folder: Path) -> str:
    """Return what is wrong and what to do for an error of SQLite, or of SQLAlchemy which has one of SQLite's inside.

    `folder` is on the disk of the database.
    """
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
    if name.startswith(BY_DISK) and (refused := reason(answer_to_write(folder))):
        return f"cannot be written to {refused}"
    for prefix, (what, remedy) in SENTENCES.items():
        if name.startswith(prefix):
            return f"{what}: {remedy}"
    return f"cannot be used ({first_line(error)}): {REPAIR}"
