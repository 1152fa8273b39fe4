"""What the job `prune` may remove: what `ADC_HOME/prune.yaml` permits, and nothing without that file.

Everybody who reaches Dagster's page can start the job with any run configuration. Run configuration can therefore only
keep more than the file, never less.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.lifecycle.settings import RetentionSettings

FILE = "prune.yaml"
SAMPLE = "{delete: true, keep_versions: 3, keep_days: 30, history_days: 90, logs_mb: 1000}"


def retention(home: Path, run_config: Any, owner: str) -> tuple[RetentionSettings, str]:
    """Return the settings of a run of `owner`, and why it removes nothing (empty if it removes).

    What the run configuration does not set is taken from the file. Raise PipelineError if either is invalid.
    """
    file = home / FILE
    permitted = read_settings(RetentionSettings, read_mapping(file), str(file)) if os.path.lexists(file) else None
    given = asdict(permitted) if permitted else {}
    if isinstance(run_config, Mapping):
        run_config = {**given, **run_config}
    wanted = read_settings(RetentionSettings, given if run_config is None else run_config, owner)
    if permitted is None:
        reason = f"{file} does not exist, and only that file permits it: to remove what is listed, write {SAMPLE} to it"
        return replace(wanted, delete=False), reason
    settings = RetentionSettings(
        keep_versions=max(wanted.keep_versions, permitted.keep_versions),
        keep_days=max(wanted.keep_days, permitted.keep_days),
        history_days=larger(wanted.history_days, permitted.history_days),
        logs_mb=larger(wanted.logs_mb, permitted.logs_mb),
        delete=wanted.delete and permitted.delete,
    )
    if settings.delete:
        return settings, ""
    where = "the run configuration" if permitted.delete else str(file)
    return settings, f"`delete` is false in {where}: set it to true to remove what is listed"


def larger(one: float | None, other: float | None) -> float | None:
    """Return the larger of two limits; None is no limit."""
    return None if one is None or other is None else max(one, other)
