"""`adc.duckdb` in ADC_HOME: one view for each table of the data stages, for people who want to look.

    duckdb .adc/adc.duckdb          # or: duckdb -ui .adc/adc.duckdb

It holds no data, only the absolute paths of the current artefacts, so it is small and never stale. A run rewrites it at
its end, beside the old file, and renames it, if a table is newer or ADC_HOME was moved or copied: a process that has it
open is not disturbed. Looking at the paths costs 10 ms.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import connected
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.links import locked
from adc_pipeline.defs.stage import STAGES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DATABASE = "adc.duckdb"
# The oldest format, which every DuckDB since 1.0 opens; the default format needs the newest.
STORAGE_VERSION = "v1.0.0"


def renew_database(store: Store, names: Iterable[str]) -> list[str]:
    """Write the views if the table of one of these assets is newer than they are, or they lead elsewhere.

    Return what `write_database` does.
    """
    path = store.home / DATABASE
    viewed = {name for name in names if name in STAGES and STAGES[name].view}
    tables = [store.current(name) for name in viewed if store.place(name).exists()]
    if any(not path.exists() or store.made_at(made) > path.stat().st_mtime for made in tables) or leads_elsewhere(
        store
    ):
        return write_database(store)
    return []


def leads_elsewhere(store: Store) -> bool:
    """Return whether a view reads the files of another ADC_HOME, from which this one was moved or copied.

    Also if it cannot be read: a damaged file is written again, and so is one that somebody has open to write.
    """
    import duckdb

    path = store.home / DATABASE
    if not path.exists():
        return False
    try:
        with connected() as connection:
            connection.execute(f"ATTACH {quoted(path)} AS adc (READ_ONLY)")
            rows = connection.execute("SELECT sql FROM duckdb_views() WHERE database_name = 'adc'").fetchall()
        here = quoted(store.home)[:-1] + "/"
        return any(here not in sql for (sql,) in rows if "parquet_scan" in sql)
    except duckdb.Error:
        return True


def write_database(store: Store) -> list[str]:
    """Write the views over all current artefacts; return the assets whose files cannot be read, which have none."""
    path = store.home / DATABASE
    new = path.with_name(f".{path.name}-new")
    # One writer at a time and one name, so that the next writer finds what a killed one left.
    with locked(store.home, wait=True):
        for left in (new, new.with_name(f"{new.name}.wal")):
            left.unlink(missing_ok=True)
        with connected() as connection:
            connection.execute(f"ATTACH {quoted(new)} AS adc (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE adc")
            unreadable = create_views(connection, store)
        new.replace(path)
    return unreadable


def quoted(path: Path) -> str:
    """Return a path as a literal of SQL, since it cannot be a parameter of ATTACH."""
    return "'" + str(path).replace("'", "''") + "'"


def create_views(connection: "DuckDBPyConnection", store: Store) -> list[str]:
    """Create the views of every stage that has some and a current artefact; return the assets that cannot be read."""
    import duckdb

    unreadable = []
    for stage in STAGES.values():
        if stage.view and store.place(stage.name).exists():
            try:
                stage.view(connection, store.place(stage.name))
            except (duckdb.Error, OSError):
                # Files that are gone or damaged; a view may be there already.
                unreadable.append(stage.name)
    return unreadable
