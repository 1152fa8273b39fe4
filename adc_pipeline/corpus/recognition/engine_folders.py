"""What the folders of data engines tell about the files in them.

Spark, pandas and others write one folder for each value of a column (`subreddit=aww/part-0.parquet`) and leave the
column out of the files. Delta Lake, Hudi and Iceberg keep files of earlier versions beside those of the latest, and a
log that tells which ones count.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers.carried import MAPPED, carried
from adc_pipeline.corpus.readers.dumps import FIELDS
from adc_pipeline.corpus.recognition.file_fields import known_fields
from adc_pipeline.corpus.recognition.formats import EMPTY, Recognised

# Folders and files, as patterns of names, by which each is known.
LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Apache Hudi", "metadata/*.metadata.json": "Apache Iceberg"}
# These patterns at the end of a path, and what lies in such a folder.
IN_ARCHIVE = {system: re.compile(rf"(?:.*/)?{pattern.replace('.', '[.]').replace('*', '[^/]*')}(?:/[^/]*)?")
              for pattern, system in LOGS.items()}  # fmt: skip
# What a job of Hadoop or Spark had not finished, and what these and Dask write about the other files of a folder.
UNFINISHED, SUMMARIES = "_temporary", ("_metadata", "_common_metadata")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# A job of Hadoop or Spark writes a file for each of its tasks, also for one that had no rows.
PART = re.compile(r"part-[rm]?-?\d+.*")


def check_log(folder: Path) -> None:
    """Raise PipelineError for the folder of a table whose log tells which of its files count."""
    for pattern, system in LOGS.items():
        if next(folder.glob(pattern), None) is not None:
            raise has_log(f"The folder {folder}", "is", system)


def check_no_log(archive: Path, member: str) -> None:
    """Raise PipelineError for a member of an archive that is the log of such a table."""
    for system, pattern in IN_ARCHIVE.items():
        if pattern.fullmatch(member.rstrip("/")):
            raise has_log(f"The archive {archive}", "holds", system)


def has_log(what: str, has: str, system: str) -> PipelineError:
    return PipelineError(
        f"{what}, which the setting corpus names, {has} a table of {system}, whose log tells which of its files count:"
        " write its rows to a folder of Parquet files."
    )


def no_data_reason(name: str) -> str:
    """Return why an entry of a folder is no data, by its name; nothing if the name does not tell."""
    if name == UNFINISHED:
        return "holds what a job had not finished"
    return "is a summary of the Parquet files beside it" if name in SUMMARIES else ""


def is_part_without_rows(name: str, reason: str) -> bool:
    """Return whether what is left out for some reason is the file of a task that had no rows, and no download."""
    return reason == EMPTY and PART.fullmatch(name) is not None


def source_by_folder(path: Path, root: Path, what: Recognised, columns: Mapping[str, str]) -> str:
    """Return the source that a folder from `root` down to a file names, where the file has no such column itself.

    Raise PipelineError for another column that is read and that only the name of a folder has.
    """
    told = [folder.partition("=") for folder in path.relative_to(root.parent).parts[:-1] if "=" in folder]
    if not told or what.kind not in ("table", "submissions", "comments"):
        return ""
    is_table, known = what.kind == "table", {field.lower() for field in known_fields(path, what.container)}
    source = columns.get("source", "source") if is_table else "subreddit"
    read = {columns.get(name, name) for name in MAPPED} if is_table else set(FIELDS)
    read = {name.lower() for name in (*read, *carried(columns).values())}
    found = ""
    for name, _, value in told:
        if name.lower() in known or name.lower() not in read:
            continue
        if name.lower() != source.lower():
            raise PipelineError(
                f"{path}, in the folder that the setting corpus names, has no column {name}, which only the name of"
                f" a folder tells ({name}={value}): write it into the file, too."
            )
        found = "" if value == NO_VALUE else unquote(os.fsencode(value).decode(errors="backslashreplace"))
    return found
