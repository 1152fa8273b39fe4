"""Report how far the reading of a file is, without a thread: thousands of small files are read one after the other."""

from pathlib import Path
from time import monotonic
from typing import BinaryIO

from adc_pipeline.core.engine import SECONDS_BETWEEN_REPORTS, Report


class Progress:
    """Says every five seconds how much of a file has been read, packed bytes where it is packed."""

    def __init__(self, file: BinaryIO, path: Path, report: Report) -> None:
        self.file, self.report = file, report
        self.name, self.total, self.reported = path.resolve().name, path.stat().st_size, monotonic()

    def update(self) -> None:
        """Report if it is time; to be called after each piece."""
        if monotonic() - self.reported > SECONDS_BETWEEN_REPORTS:
            self.reported = monotonic()
            self.report(f"{self.name}: {self.file.tell() / 1e6:,.0f} of {self.total / 1e6:,.0f} MB read")
