"""Estimate from a corpus' size how much room its stages need on the disk, and refuse to begin with less.

33,000 utterances of Reddit's leave 1.0 bytes for each byte of a ConvoKit folder, 1.2 of a dump's JSON lines and 4.7 of
the same dump compressed by Zstandard, the three datasets (0.4 bytes a byte of the folder) included. The factors here
are above that for what DuckDB spills.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from adc_pipeline.core.errors import PipelineError

PLAIN, COMPRESSED = 1.6, 6.0
COMPRESSED_ENDINGS = {".zst", ".gz", ".xz", ".bz2", ".zip", ".parquet", ".tgz", ".arrow"}


def check_room(files: Iterable[Path], home: Path) -> None:
    """Raise PipelineError if the disk of `home` has less room than a corpus of these files needs."""
    sizes = [(path.stat().st_size, path.suffix.lower() in COMPRESSED_ENDINGS) for path in files]
    needed = sum(size * (COMPRESSED if compressed else PLAIN) for size, compressed in sizes)
    free = shutil.disk_usage(home).free
    if needed > free:
        raise PipelineError(
            f"A corpus of {shown(sum(size for size, _ in sizes))} needs about {shown(needed)} on the disk of ADC_HOME ="
            f" {home}, which has {shown(free)} left: make room, point ADC_HOME to another disk, or take a part of the"
            " corpus."
        )


def shown(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
