"""Read the settings of schedules and sensors from `ADC_HOME/automation.yaml`, if the file exists.

A time zone belongs to an installation and not to a run, so it cannot be run configuration; environment variables set
places only. These settings therefore live in a file under `ADC_HOME`. The file also names the run configuration of
scheduled runs, which the command line takes as `-c`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from dagster._utils.schedules import is_valid_cron_schedule

from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.core.spellings import read_settings

FILE = "automation.yaml"


@dataclass(frozen=True)
class AutomationSettings(Settings):
    """Settings in `automation.yaml`."""

    time_zone: str = setting("UTC", "Time zone of all schedules, such as Europe/Berlin.")
    weekly: str = setting("0 3 * * 1", "Cron expression of the schedule that rebuilds everything.")
    # After the hours that daylight saving skips or repeats.
    nightly: str = setting("0 4 * * *", "Cron expression of the schedule that rebuilds the datasets.")
    prune: str = setting("0 6 * * 1", "Cron expression of the schedule that runs the job prune.")
    rebuild: Literal["adc", "datasets"] = setting(
        "adc", "Job that a changed corpus starts: adc (everything) or datasets."
    )
    run_config: str = setting("", "Run configuration file of these runs; a relative path starts at ADC_HOME.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weekly", "nightly", "prune"):
            if not is_valid_cron_schedule(getattr(self, name)):
                raise PipelineError(
                    f"`{name}` is {getattr(self, name)!r}, which is not a cron expression: use one such as 0 3 * * 1."
                )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise PipelineError(
                f"`time_zone` is {self.time_zone!r}, which is not a time zone: use one such as UTC or Europe/Berlin."
            ) from error


def read_automation(home: Path) -> AutomationSettings:
    """Return the settings of an ADC_HOME; raise PipelineError if the file is invalid."""
    values = read_mapping(home / FILE) if (home / FILE).exists() else {}
    return read_settings(AutomationSettings, values, str(home / FILE))


def read_run_config(home: Path, settings: AutomationSettings) -> dict[str, Any]:
    """Return the run configuration of every job; raise PipelineError if the file is not one."""
    if not settings.run_config:
        return {}
    return read_mapping(home / Path(settings.run_config).expanduser())


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise PipelineError if it has none."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineError(f"{path} cannot be read ({first_line(error)}): give a YAML file.") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path} is not a mapping of names to values: write one `name: value` per line.")
    return values
