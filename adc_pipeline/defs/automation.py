"""Read the settings of schedules and sensors from `ADC_HOME/automation.yaml`, if the file exists.

A time zone belongs to an installation and not to a run, so it cannot be run configuration; environment variables set
places only. These settings therefore live in a file under `ADC_HOME`. The file also names the run configuration of
scheduled runs, which the command line takes as `-c`.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.settings import setting

FILE = "automation.yaml"
REBUILDS = ("adc", "datasets")


@dataclass(frozen=True)
class AutomationSettings:
    """Settings in `automation.yaml`."""

    time_zone: str = setting("UTC", "Time zone of all schedules, such as Europe/Berlin.")
    weekly: str = setting("0 3 * * 1", "Cron expression of the schedule that rebuilds everything.")
    # After the hours that daylight saving skips or repeats.
    nightly: str = setting("0 4 * * *", "Cron expression of the schedule that rebuilds the datasets.")
    prune: str = setting("0 6 * * 1", "Cron expression of the schedule that runs the job prune.")
    rebuild: str = setting("adc", "Job that a changed corpus starts: adc (everything) or datasets.")
    run_config: str = setting("", "Run configuration file of these runs; a relative path starts at ADC_HOME.")

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise PipelineError(
                f"The setting `time_zone` in {FILE} is {self.time_zone!r}, which is not a time zone: use one such as"
                " UTC or Europe/Berlin."
            ) from error
        if self.rebuild not in REBUILDS:
            raise PipelineError(
                f"The setting `rebuild` in {FILE} is {self.rebuild!r}: use one of {', '.join(REBUILDS)}."
            )


def read_automation(home: Path) -> AutomationSettings:
    """Return the settings of an ADC_HOME; raise PipelineError if the file is invalid."""
    values = read_mapping(home / FILE) if (home / FILE).exists() else {}
    known = {setting.name for setting in fields(AutomationSettings)}
    if wrong := [str(name) for name, value in values.items() if name not in known or not isinstance(value, str)]:
        raise PipelineError(
            f"{home / FILE} sets {', '.join(sorted(wrong))}: use only the settings {', '.join(sorted(known))}, each a"
            " string."
        )
    return AutomationSettings(**values)


def read_run_config(home: Path, settings: AutomationSettings, assets: Collection[str]) -> dict[str, Any]:
    """Return the run configuration of a job, with the configuration of its own `assets` (or ops) only.

    Dagster rejects a run configuration that names an op outside the job. Raise PipelineError if the file is invalid.
    """
    if not settings.run_config:
        return {}
    config = read_mapping(home / Path(settings.run_config).expanduser())
    ops = config.get("ops") or {}
    if not isinstance(ops, dict):
        raise PipelineError(
            f"The setting `run_config` in {FILE} names {settings.run_config}, whose `ops` is not a mapping: write the"
            " name of each asset and its `config`."
        )
    return config | {"ops": {name: value for name, value in ops.items() if name in assets}}


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise PipelineError if it has none."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineError(f"{path} cannot be read ({first_line(error)}): give a YAML file.") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path} is not a mapping of names to values: write one `name: value` per line.")
    return values
