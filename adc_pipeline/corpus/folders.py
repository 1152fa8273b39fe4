"""Find the files of a corpus below a path: one ConvoKit corpus, or the dumps and tables of a folder."""

import re
from pathlib import Path

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.formats import Format, recognise, unfit
from adc_pipeline.corpus.recorded_files import part_files

# The files of a folder that are opened; their content decides what they are.
DATA = re.compile(r"(?i)(R[SC]_[^.]*|.*\.(zst|gz|jsonl|ndjson|csv|tsv|parquet))")
READING_ORDER = ("convokit", "submissions", "comments", "table")


def data_files(path: Path, wanted: Format, report: Report = no_report) -> list[Path]:
    """Return the path itself, or the dumps and tables in a folder: submissions before comments, then by name.

    `report` receives the names of the files that are left out. Raises PipelineError for a path that is no corpus.
    """
    if path.is_file() and path.suffix.lower() == ".zip":
        raise PipelineError(
            f"The file {path} is not a whole zip archive: fetch it again, or give the setting corpus (or"
            " ADC_CORPUS) another."
        )
    if not path.is_dir() or is_convokit_folder(path, wanted):
        recognise(path, wanted)
        return [path]
    below = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    data = [file for file in below if DATA.fullmatch(file.name)]
    if not data:
        raise unfit(path, "is neither a ConvoKit corpus, which has utterances.jsonl, nor a folder of dumps or tables")
    if left_out := [str(file.relative_to(path)) for file in below if file not in data]:
        report(f"In {path}, no part of the corpus: {', '.join(left_out[:20])}{' …' * (len(left_out) > 20)}")
    return sorted(data, key=lambda file: (READING_ORDER.index(recognise(file, wanted)), file.name, file))


def watched_files(path: Path, wanted: Format) -> list[Path]:
    """Return the files whose size or time changes when the corpus at this path does; opens none."""
    if not path.is_dir():
        return [path]
    if is_convokit_folder(path, wanted):
        return part_files(path)
    return [file for file in sorted(path.rglob("*")) if file.is_file() and DATA.fullmatch(file.name)]


def is_convokit_folder(path: Path, wanted: Format) -> bool:
    """Return whether a folder is read as one ConvoKit corpus."""
    return wanted == "convokit" or (wanted == "auto" and (path / "utterances.jsonl").is_file())
