"""Recognise the parts of a work folder that an interrupted run has finished, as they were when it finished them.

A part that is there may have been altered since, or have lost its content in a power failure, which a rename survives
and what was written before may not. Since a part can be made again, it counts only if sizes and times of its files are
those that were noted beside it, in `.NAME.files`. Costs one `stat` a file.
"""

import shutil
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.core.store.content import file_stamp


def finish(part: Path) -> None:
    """Note that a file or a folder is finished."""
    write_record(_note(part), _stamps(part))


def is_finished(part: Path) -> bool:
    """Return whether a file or a folder was finished and is as it was then; otherwise remove what is there."""
    try:
        if read_record(_note(part)) == _stamps(part):
            return True
    except (PipelineError, OSError):
        # There is no note, or it is damaged; or a link leads nowhere.
        pass
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
    return False


def _note(part: Path) -> Path:
    return part.with_name(f".{part.name}.files")


def _stamps(part: Path) -> dict[str, Any]:
    files = (path for path in part.rglob("*") if not path.is_dir()) if part.is_dir() else [part]
    return {str(path.relative_to(part)): file_stamp(path) for path in files}
