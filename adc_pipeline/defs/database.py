"""`adc.duckdb` in ADC_HOME: one view for each table of the data stages, for people who want to look.

    duckdb .adc/adc.duckdb          # or: duckdb -ui .adc/adc.duckdb

It holds no data, only the paths of the current artefacts, so it is small and never stale. A run that made a table
rewrites it at its end, beside the old file, and renames it: a process that has it open is not disturbed.
"""

from collections.abc import Iterable
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
    """Write the views if the table of one of these assets is newer than they are; return what `write_database` does."""
    path = store.home / DATABASE
    viewed = {name for name in names if name in STAGES and STAGES[name].view}
    tables = [store.current(name) for name in viewed if store.place(name).exists()]
    if any(not path.exists() or store.made_at(made) > path.stat().st_mtime for made in tables):
        return write_database(store)
    return []


def write_database(store: Store) -> list[str]:
    """Write the views over all current artefacts; return the assets whose files cannot be read, which have none."""
    path = store.home / DATABASE
    new = path.with_name(f".{path.name}-new")
    # One writer at a time and one name, so that the next writer finds what a killed one left.
    with locked(store.home, wait=True):
        for left in (new, new.with_name(f"{new.name}.wal")):
            left.unlink(missing_ok=True)
        with connected() as connection:
            # A path cannot be a parameter of ATTACH.
            quoted = str(new).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS adc (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE adc")
            unreadable = create_views(connection, store)
        new.replace(path)
    return unreadable


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
