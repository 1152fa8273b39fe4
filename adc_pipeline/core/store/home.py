"""Check that ADC_HOME can be written to, by this pipeline and by the programs below it."""

import os
import re
import resource
import shutil
from pathlib import Path

from adc_pipeline.core.atomic import temporary
from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.core.named_files import folder_problem

# Patterns of DuckDB, escapes in the addresses of SQLite files, control characters, and bytes that are no UTF-8.
UNFIT = re.compile(r"[*?\[\\\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
# Leaves room for Dagster's files of single runs.
LONGEST = 400


def check_home(home: Path, free: int = 1 << 28) -> None:
    """Raise PipelineError unless `ADC_HOME` can be written to and has `free` bytes left."""
    if found := UNFIT.search(str(home)):
        raise PipelineError(
            f"ADC_HOME = {home} contains {found[0]!r}, which DuckDB, Dagster or MLflow cannot have in a path"
            " (* ? [ \\, % before two digits of a hexadecimal number, control characters, bytes that are no UTF-8):"
            " point ADC_HOME to a folder without."
        )
    if len(os.fsencode(home)) > LONGEST:
        raise PipelineError(
            f"ADC_HOME = {home} is longer than {LONGEST} bytes, and SQLite opens no file whose path is"
            " longer than 512: point ADC_HOME to a folder with a shorter path."
        )
    if problem := folder_problem(home):
        raise PipelineError(f"ADC_HOME = {home} {problem}.")
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY and largest < free:
        # SQLite would report it as a damaged disk.
        raise PipelineError(
            f"This process may write files of at most {largest >> 10} KiB (`ulimit -f`), and at least"
            f" {free >> 10} are needed: raise the limit, or run it without."
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = temporary(home / "probe")
        try:
            probe.write_bytes(b"probe")
        finally:
            # On a full disk it exists too, and is empty.
            probe.unlink(missing_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise PipelineError(
                f"The disk of ADC_HOME = {home} is full: make room, or point ADC_HOME to another disk."
            ) from error
        raise PipelineError(
            f"ADC_HOME = {home} cannot be written to ({error.strerror}): point ADC_HOME to a folder that can."
        ) from error
    left = shutil.disk_usage(home).free
    if left < free:
        raise PipelineError(
            f"ADC_HOME = {home} has {left >> 20} MiB left and at least {free >> 20} are needed: make"
            " room or point ADC_HOME to another disk."
        )
