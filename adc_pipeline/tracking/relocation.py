"""Correct MLflow's addresses after ADC_HOME was moved or copied.

MLflow stores absolute addresses: where the experiment's artifacts go, where each run, logged model and version has its
files, and where each dataset was. `relocate` replaces the old home by the new one in a copy of the database, reads an
artifact by the corrected addresses to prove them, and copies it back in one transaction. The old home, if it still
exists, stays as it is.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import object_in
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.store.links import locked
from adc_pipeline.tracking.artifacts import local_path
from adc_pipeline.tracking.database import ARTIFACTS, DATABASE, connect, copy, explained, real_path, temporary_beside

# Every column in which MLflow keeps an address of a file.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),
)
# Addresses of each kind of which one has to lead to something.
TRIED = 20


def relocate(home: Path) -> dict[str, int]:
    """Correct the addresses in `home/mlflow.db`; return how many were changed, by table and column.

    Raises PipelineError if there is no database, if it is damaged or the home cannot be written to, or if an artifact
    cannot be read by its corrected address; the database is then unchanged.
    """
    database = home / DATABASE
    if not database.exists():
        raise PipelineError(f"There is no MLflow database {database}: point ADC_HOME to the folder that was moved.")
    check_home(home)
    database = real_path(database)
    with locked(database.parent, wait=True), explained(database):
        before = previous_home(database)
        if before is None or before == home:
            return {}
        with temporary_beside(database) as new:
            copy(database, new)
            changed = replace_addresses(new, before, home)
            prove(new, home)
            # In one transaction of SQLite's, which programs that have the database open see.
            with closing(sqlite3.connect(new)) as source, closing(sqlite3.connect(database)) as target:
                source.backup(target)
    return changed


def previous_home(database: Path) -> Path | None:
    """Return the home that the database's addresses lead to; None if no experiment keeps its artifacts in one."""
    with closing(connect(database)) as connection:
        locations = connection.execute("SELECT artifact_location FROM experiments ORDER BY experiment_id DESC")
        for (location,) in locations.fetchall():
            if location and location.rstrip("/").endswith(f"/{ARTIFACTS}"):
                return local_path(location).parent
    return None


def replace_addresses(database: Path, before: Path, home: Path) -> dict[str, int]:
    """Replace the prefix of every address, as a `file:` URI and as a path; return the number by table and column.

    Only at the beginning of an address, which in JSON follows a quotation mark: the name of a home, such as `/store`,
    may occur in it again.
    """
    changed = {}
    with closing(sqlite3.connect(database)) as connection:
        for table, column in ADDRESSES:
            number = 0
            for old, new in ((before.as_uri(), home.as_uri()), (str(before), str(home))):
                values = {"old": f"{old}/", "new": f"{new}/"}
                # Names of tables and columns are constants; values are parameters.
                for change, where in (
                    (f":new || substr({column}, length(:old) + 1)", f"substr({column}, 1, length(:old)) = :old"),
                    (f"""replace({column}, '"' || :old, '"' || :new)""", f"""instr({column}, '"' || :old)"""),
                ):
                    statement = f"UPDATE {table} SET {column} = {change} WHERE {where}"  # noqa: S608
                    number += connection.execute(statement, values).rowcount
            if number:
                changed[f"{table}.{column}"] = number
        connection.commit()
    return changed


def prove(database: Path, home: Path) -> None:
    """Read a file at the newest address below `home` of each kind; raise PipelineError where no file is at any of them.

    One of each kind is enough: all have the same prefix. A run without files has no folder, and an old version of an
    artefact may have been pruned, so that the newest addresses are tried in turn.
    """
    with closing(sqlite3.connect(database)) as connection:
        for table, column in ADDRESSES:
            rows = connection.execute(
                f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY rowid DESC LIMIT {TRIED}"  # noqa: S608
            ).fetchall()
            folders = [path for (address,) in rows if (path := folder_of(address)).is_relative_to(home)]
            if table == "runs" and (home / ARTIFACTS).is_dir() and not any((home / ARTIFACTS).iterdir()):
                continue
            if folders and not any(is_readable(folder) for folder in folders):
                raise PipelineError(
                    f"{folders[0]} does not exist or cannot be read, which MLflow's {table} name: copy {ARTIFACTS} and"
                    f" store together with {DATABASE}, then run `adc relocate` again."
                )


def folder_of(address: str) -> Path:
    """Return the path of an address, which a dataset has within JSON."""
    return local_path(str(object_in(address).get("uri", "")) if address.startswith("{") else address)


def is_readable(folder: Path) -> bool:
    """Return whether a folder exists and its first file, if it has one, can be read."""
    try:
        file = next((path for path in folder.rglob("*") if path.is_file()), None)
        if file is not None:
            with file.open("rb") as opened:
                opened.read(1)
        return folder.is_dir()
    except OSError:
        return False
