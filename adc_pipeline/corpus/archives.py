"""Unpack a zip of a ConvoKit corpus: only the corpus' own files, and only inside the target folder."""

import shutil
import zipfile
from pathlib import Path

from adc_pipeline.core.errors import PipelineError, is_disk_full

LINES = "utterances.jsonl"


def unzip(archive: Path, out: Path) -> None:
    """Unpack the folder of `archive` that holds utterances.jsonl to `out`, which does not exist yet.

    Raises PipelineError for a damaged archive, a member that would be written outside `out`, or an archive that
    holds no corpus or several.
    """
    unpacked = out.with_name("unzipped")
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.namelist():
                if not (unpacked / member).resolve().is_relative_to(unpacked.resolve()):
                    raise PipelineError(
                        f"The zip {archive} holds {member!r}, which would be written outside its folder: do not"
                        " trust it, and give the setting corpus another."
                    )
            content.extractall(unpacked)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        if is_disk_full(error):
            raise
        raise PipelineError(f"The zip {archive} could not be unpacked ({error}): fetch it again.") from error
    found = sorted(unpacked.rglob(LINES))
    if len(found) != 1:
        raise PipelineError(
            f"The zip {archive} holds {len(found)} files named {LINES}, and a ConvoKit corpus has one: give the"
            " setting corpus another."
        )
    found[0].parent.rename(out)
    shutil.rmtree(unpacked, ignore_errors=True)
