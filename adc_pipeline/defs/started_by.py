"""Who started a run: a person, or a schedule or a sensor, which must not undo what a person has made.

A schedule or a sensor is asked before its run (`overwritten`): a version that a person made with other settings, or of
another corpus, stays. `stale_assets` starts runs without a configuration: each asset keeps the settings of its current
version.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.run_configuration import configured
from adc_pipeline.core.settings import declared
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import as_json, read_making
from adc_pipeline.defs.stage import STAGES, Stage

# Tags that Dagster sets.
SOURCES = {"dagster/schedule_name": "schedule", "dagster/sensor_name": "sensor"}
AUTOMATION_CONDITION = "dagster/from_automation_condition"
# Of a job whose assets keep the settings of their current versions, unless its configuration has some.
KEEPS_SETTINGS = "adc/keeps_settings"


@dataclass(frozen=True)
class Going:
    """A run that has not ended: the assets that it makes, and its configuration."""

    assets: frozenset[str]
    run_config: Mapping[str, Any]


def started_by(tags: Mapping[str, str]) -> str:
    """Return the schedule or sensor that started a run; empty for a person."""
    return next((f"{kind} {tags[tag]}" for tag, kind in SOURCES.items() if tag in tags), "")


def keeps_settings(tags: Mapping[str, str]) -> bool:
    """Return whether a run materializes assets with the settings that they have."""
    return "true" in (tags.get(AUTOMATION_CONDITION), tags.get(KEEPS_SETTINGS))


def current_settings(stage: Stage[Any], store: Store) -> dict[str, Any] | None:
    """Return the settings of an asset's current version, as far as this release knows them; None if there is none."""
    try:
        settings = store.current(stage.name).settings
    except PipelineError:
        return None
    return {name: value for name, value in settings.items() if name in declared(stage.settings)}


def planned_settings(stage: Stage[Any], run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an asset has in a run; raise PipelineError for settings that cannot work."""
    settings = read_settings(stage.settings, configured(run_config, "ops", stage.name), stage.name)
    return as_json(asdict(stage.complete(settings, None) if stage.complete else settings))


def overwritten(
    store: Store,
    assets: Collection[str],
    run_config: Mapping[str, Any],
    saved: float,
    going: Collection[Going],
) -> Iterator[str]:
    """Yield what a run of `assets` would rebuild with other settings than those that a person chose.

    A version that was made before `saved`, the time at which a person wrote the configuration of automated runs, does
    not count: the person has decided since. `going` are the runs of persons that have not ended.
    Raise PipelineError for settings that cannot work.
    """
    for stage in (each for name, each in STAGES.items() if name in assets and not each.partitions):
        planned = planned_settings(stage, run_config)
        for run in going:
            if stage.name in run.assets and (chosen := other(planned_or_none(stage, run.run_config), planned)):
                yield f"a run that has not ended makes {stage.name} with {chosen}"
        try:
            made = store.current(stage.name)
        except PipelineError:
            continue
        if read_making(made).get("by") or store.made_at(made) <= saved:
            continue
        if chosen := other(made.settings, planned):
            yield f"{stage.name} was made by a person with {chosen}"


def planned_or_none(stage: Stage[Any], run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an asset has in a run; none of a run that will be refused."""
    try:
        return planned_settings(stage, run_config)
    except PipelineError:
        return {}


def other(chosen: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    """Return which chosen settings differ from the planned ones; a setting that one of them lacks was not chosen."""
    names = [name for name in planned if name in chosen and planned[name] != chosen[name]]
    return ", ".join(f"{name} {chosen[name]!r} in place of {planned[name]!r}" for name in names)
