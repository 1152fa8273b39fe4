"""Dagster's home: DAGSTER_HOME where it is set, otherwise ADC_HOME/dagster with this package's dagster.yaml.

The history, the limits of the queue and the run launcher are therefore the same in every working directory, and in a
clone the same as those of `dagster job execute`, which reads the file from the repository's root.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.errors import PipelineError, first_line, is_disk_full
from adc_pipeline.core.named_files import file_problem
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.home import check_home

if TYPE_CHECKING:
    from dagster import DagsterInstance

TEMPLATE = Path(__file__).with_name("dagster.yaml")
# Where the template keeps everything.
PLACE = ".adc/dagster"
HEADER = "# adc writes this file again when it starts. Remove this line to keep changes of your own.\n"


def use_dagster_home(store: Store) -> Path:
    """Set DAGSTER_HOME for this process and those that it starts; return it.

    A dagster.yaml that was edited, so that it no longer begins with `HEADER`, is left alone. Raise PipelineError if
    DAGSTER_HOME is set to what Dagster does not take.
    """
    if own := os.environ.get("DAGSTER_HOME"):
        # As Dagster reads it.
        folder = Path(own).expanduser()
        if not (folder.is_absolute() and folder.is_dir()):
            wrong = "is no folder" if folder.is_absolute() else "depends on the working directory"
            raise PipelineError(
                f"DAGSTER_HOME = {own} {wrong}: create a folder and set its whole path, or unset DAGSTER_HOME to use"
                f" {store.home / 'dagster'}."
            )
        return folder
    check_home(store.home)
    folder = store.home / "dagster"
    folder.mkdir(exist_ok=True)
    settings = HEADER + rendered(folder)
    file = folder / "dagster.yaml"
    if os.path.lexists(file) and (problem := file_problem(file)):
        raise PipelineError(f"{file} {problem.partition(':')[0]}: remove it, and it is written again.")
    old = file.read_text(errors="replace") if file.exists() else HEADER
    # A power failure may leave an empty file, or one of zeros; Dagster would go on without these settings.
    ours = old.startswith(HEADER) or not old.strip("\0\n ")
    if ours and old != settings:
        with atomic_file(file) as new:
            new.write_text(settings)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def rendered(folder: Path) -> str:
    """Return the template with `folder` in place of its own."""
    import yaml

    lines = []
    for line in TEMPLATE.read_text().splitlines():
        name, found, below = line.partition(f": {PLACE}")
        # JSON writes a character beyond the first 65,536 as two halves, which YAML does not join.
        quoted = yaml.safe_dump(f"{folder}{below}", default_style='"', width=math.inf).strip()
        lines.append(f"{name}: {quoted}" if found else line)
    return "\n".join(lines) + "\n"


@contextmanager
def dagster_instance(store: Store) -> Iterator["DagsterInstance"]:
    """Open Dagster's instance; PipelineError if Dagster cannot be started there."""
    import dagster as dg

    home = use_dagster_home(store)
    try:
        instance = dg.DagsterInstance.get()
    except PipelineError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise PipelineError(f"The disk of DAGSTER_HOME = {home} is full: make room.") from error
        raise PipelineError(
            f"Dagster cannot be started on DAGSTER_HOME = {home} ({first_line(error)}): correct its dagster.yaml, or"
            " run `adc repair` if a database in it is damaged."
        ) from error
    with instance:
        try:
            yield instance
        except Exception as error:
            # Errors of steps do not get here, so that these are of Dagster's own storage.
            if type(error).__module__.partition(".")[0] not in ("sqlite3", "sqlalchemy"):
                raise
            from adc_pipeline.tracking.database import fault

            raise PipelineError(f"A database of Dagster in DAGSTER_HOME = {home} {fault(error, home)}.") from error
