"""`adc repair`: replace damaged SQLite databases of MLflow and Dagster, and report what is lost.

A damaged database locks every later run out of ADC_HOME, although the artefacts beside it are intact. It is moved aside
and kept. MLflow's runs and registered models of the current artefacts are then restored from the store, as a run does
for artefacts that are up to date (`tracking.restoration`). Artefacts themselves are only checked: the next run rebuilds
a damaged one.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from adc_pipeline.cli.home import dagster_instance, use_dagster_home
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import damage, refuse_added
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.store.links import locked
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.code_references import origin_tags
from adc_pipeline.defs.history import FOLDERS, create
from adc_pipeline.generation.registration import (
    REGISTERED,
    describe_version,
    is_registered,
    read_registered,
    register_model,
)
from adc_pipeline.tracking.address import sqlite_file
from adc_pipeline.tracking.database import (
    COMPANIONS,
    columns,
    connect,
    is_ready,
    lacking,
    prepared,
    real_path,
    revision,
    sentence,
)
from adc_pipeline.tracking.failures import explained
from adc_pipeline.tracking.restoration import restored_run
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking

Report = Callable[[str], None]

LOST_IN_MLFLOW = (
    "Lost from MLflow, unless the old file still gives it (`sqlite3 FILE .recover`): runs of earlier versions and of"
    " failures, durations and metrics of single steps, aliases such as champion, pins, and notes and tags of your own."
)
LOST_IN_DAGSTER = {
    "runs.db": "the list of runs",
    "index.db": "what was materialized and checked when",
    "schedules.db": "which schedules and sensors are switched on, and their ticks",
}


def repair(store: Store, report: Report) -> None:
    """Replace damaged databases, restore what the store can give back, and report every finding.

    Raise PipelineError while artefacts are being written, or if a database cannot be read for another reason.
    """
    check_home(store.home)
    if busy := store.being_written():
        raise PipelineError(f"ADC_HOME = {store.home} is in use, {', '.join(busy)} is being built: wait for the run.")
    store.remove_left()
    found = [repair_dagster(store, report), repair_mlflow(store, report), check_artefacts(store, report)]
    if not any(found):
        report(f"Nothing is damaged in ADC_HOME = {store.home}.")


def repair_dagster(store: Store, report: Report) -> bool:
    """Move damaged databases of Dagster aside, and have Dagster create new ones; return whether there were any."""
    home = use_dagster_home(store)
    files = [file for folder in FOLDERS for file in sorted((home / folder).rglob("*.db"))]
    with TemporaryDirectory(prefix="adc-") as name:
        if files:
            create(new := Path(name), list(FOLDERS))
        damaged = [
            file
            for file in files
            if replace_damaged(file, "Dagster", report, partial(lacking_in_dagster, file, home, new))
        ]
    for file in damaged:
        report(f"Lost from Dagster: {LOST_IN_DAGSTER.get(file.name, f'the log of the run {file.stem}')}.")
    if damaged:
        with dagster_instance(store):
            pass
    return bool(damaged)


def repair_mlflow(store: Store, report: Report) -> bool:
    """Move a damaged database of MLflow aside, and restore the runs and models of the current artefacts.

    Return whether anything was missing.
    """
    tracking = Tracking.from_environment(store.home)
    file = sqlite_file(tracking.uri)
    found = False
    if file is not None and os.path.lexists(file):
        file = real_path(file)
        with locked(file.parent, wait=True):
            found = replace_damaged(file, "MLflow", report, partial(lacking_in_mlflow, file))
        if found:
            # Here, since a link to it now leads nowhere.
            with prepared(file):
                pass
    if found:
        report(LOST_IN_MLFLOW)
    # A damaged model would be registered as if it were the one that was trained; `check_artefacts` reports it.
    intact = [made for made in current(store) if not damage(made)]
    name = f"repair {time.strftime('%Y-%m-%d %H:%M:%S')}"
    # Runs that this command makes are below one of its own, as those of a job are.
    parent = partial(tracking.parent, name, name, origin_tags(repair))
    restored = [message for made in intact for message in restore(store, tracking, made, parent)]
    for message in restored:
        report(message)
    return found or bool(restored)


def check_artefacts(store: Store, report: Report) -> bool:
    """Report artefacts whose manifest cannot be read, and current ones with files that are missing, altered or added.

    Return whether there are any.
    """
    found = False
    for folder in store.unreadable():
        found = True
        report(
            f"The manifest of {folder} cannot be read: the next run that makes {store.name_of(folder)} replaces it if"
            " it is current."
        )
    for made in current(store):
        if files := damage(made):
            found = True
            report(f"{made.name} is damaged ({', '.join(files[:3])} is missing or altered): the next run rebuilds it.")
        try:
            refuse_added(made)
        except PipelineError as error:
            found = True
            report(str(error))
    return found


def current(store: Store) -> Iterator[Artefact]:
    return (made for made in store.versions() if store.is_current(made))


def lacking_in_mlflow(file: Path) -> list[str]:
    """Return the columns that a database of MLflow lacks; one of an earlier version has others, and is upgraded."""
    return lacking(file) if is_ready(file) else []


def lacking_in_dagster(file: Path, home: Path, new: Path) -> list[str]:
    """Return the columns that a database of Dagster lacks, beside the new ones in the folder `new`.

    One of an earlier version has others, and is upgraded. Each run has a database with the tables of the index.
    """
    beside = new / file.relative_to(home)
    beside = beside if beside.exists() else new / "history" / "runs" / "index.db"
    return sorted(columns(beside) - columns(file)) if revision(file) == revision(beside) else []


def replace_damaged(path: Path, owner: str, report: Report, missing: Callable[[], list[str]]) -> bool:
    """Move an SQLite file aside, with its journal, if it is damaged; return whether it was.

    `missing` returns the columns that an intact file should have and has not.
    """
    reason = fault(path, owner, missing)
    if not reason:
        return False
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for companion in COMPANIONS:
        beside = path.with_name(path.name + companion)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + companion))
    path.rename(kept)
    report(
        f"The database {path} of {owner} is damaged ({reason}): it is now {kept.name}, and a new one takes its place."
    )
    return True


def fault(path: Path, owner: str, missing: Callable[[], list[str]] = list) -> str:
    """Return why an SQLite file is damaged, empty if it is not; PipelineError if it cannot be read.

    Tables without exactly one revision are those of a process that was killed while it created them.
    """
    try:
        with closing(connect(path)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = (
                connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
                if "alembic_version" in tables
                else 0
            )
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return first_line(error)
        raise PipelineError(sentence(path, error, owner)) from error
    if answer != "ok":
        return answer.splitlines()[0]
    if tables and versions != 1:
        return f"its tables have {versions} revisions instead of one"
    gone = missing()
    return f"it lacks {', '.join(gone[:3])}" if gone else ""


def restore(store: Store, tracking: Tracking, made: Artefact, parent: Callable[[], str]) -> list[str]:
    """Restore the MLflow run of a current artefact and the version of its model; return what was restored.

    `parent` returns the id of the run below which a new one belongs.
    """
    messages: list[str] = []
    inputs = {name: store.version(name, digest) for name, digest in made.inputs.items() if has(store, name, digest)}
    tags = {"dagster.asset_key": made.name.partition("/")[0], "adc.code_version": made.code_version}
    run = restored_run(tracking, made, inputs, tags, messages.append, parent=parent)
    if (made.path / REGISTERED).is_file():
        with explained(tracking.uri, tracking.variable):
            messages += restore_version(store, made, inputs, run)
    return messages


def restore_version(store: Store, made: Artefact, inputs: Mapping[str, Artefact], run: Run) -> list[str]:
    """Register a model again if MLflow has lost its version; return what was restored."""
    registered = read_registered(made.path)
    if is_registered(run, registered):
        return []
    # Imports torch.
    from transformers.utils.logging import disable_progress_bar

    from adc_pipeline.evaluation import served

    disable_progress_bar()
    new = register_model(run, made.path, registered["registered_model"], served)
    store.amend(made, REGISTERED, json.dumps(new, allow_nan=False) + "\n")
    describe_version(run, new, inputs)
    return [f"{made.name} is registered again, as version {new['registered_version']} of {new['registered_model']}."]


def has(store: Store, name: str, digest: str) -> bool:
    try:
        store.version(name, digest)
    except PipelineError:
        return False
    return True
