"""Settings of what runs by itself: `ADC_HOME/automation.yaml`, if there is such a file.

A time zone belongs to where the pipeline is installed and not to one run, so it cannot be run configuration; an
environment variable sets a place and nothing else; so it stands in a file in that place. It also names the run
configuration that schedules and sensor start their runs with, which the command line takes by `-c`.
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
    """What `automation.yaml` may set."""

    time_zone: str = setting("UTC", "Of all schedules, such as Europe/Berlin.")
    weekly: str = setting("0 3 * * 1", "When everything is rebuilt, as for cron.")
    # After the hours that daylight saving skips or repeats.
    nightly: str = setting("0 4 * * *", "When the datasets are rebuilt, as for cron.")
    prune: str = setting("0 6 * * 1", "When old artefacts are looked for, as for cron.")
    rebuild: str = setting("adc", "The job that a changed corpus starts: adc (everything) or datasets.")
    run_config: str = setting("", "A run configuration file; a relative path starts at ADC_HOME.")

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise PipelineError(
                f"The setting `time_zone` in {FILE} is {self.time_zone!r}, which is no time zone: give one like UTC or"
                " Europe/Berlin."
            ) from error
        if self.rebuild not in REBUILDS:
            raise PipelineError(
                f"The setting `rebuild` in {FILE} is {self.rebuild!r}: give one of {', '.join(REBUILDS)}."
            )


def read_automation(home: Path) -> AutomationSettings:
    """The settings of an ADC_HOME; PipelineError where the file cannot be understood."""
    values = read_mapping(home / FILE) if (home / FILE).exists() else {}
    known = {setting.name for setting in fields(AutomationSettings)}
    if wrong := [str(name) for name, value in values.items() if name not in known or not isinstance(value, str)]:
        raise PipelineError(
            f"{home / FILE} sets {', '.join(sorted(wrong))}: its settings are {', '.join(sorted(known))}, each a text."
        )
    return AutomationSettings(**values)


def read_run_config(home: Path, settings: AutomationSettings, assets: Collection[str]) -> dict[str, Any]:
    """The run configuration for a job of these assets; what the file sets of others is left out."""
    if not settings.run_config:
        return {}
    config = read_mapping(home / Path(settings.run_config).expanduser())
    ops = config.get("ops") or {}
    if not isinstance(ops, dict):
        raise PipelineError(f"The `run_config` of {FILE}, {settings.run_config}, has `ops` that map no asset.")
    return config | {"ops": {name: value for name, value in ops.items() if name in assets}}


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of names and values."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineError(f"{path} cannot be read ({first_line(error)}): give a YAML file.") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path} is no mapping of names to values: write one `name: value` a line.")
    return values
