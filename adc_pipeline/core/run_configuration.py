"""The shape of a run configuration, a YAML file of settings by asset and by resource, of which a person may write any.

`ops: {ASSET: {config: SETTINGS}}`, `resources: {RESOURCE: {config: SETTINGS}}`, and two parts that Dagster reads.
"""

from collections.abc import Collection, Mapping
from typing import Any

from adc_pipeline.core.errors import did_you_mean
from adc_pipeline.core.settings import as_shown

PARTS = ("ops", "resources", "execution", "loggers")
# Those whose entries are settings by name.
NAMED = ("ops", "resources")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that is a mapping; an empty one for any other."""
    return value if isinstance(value, Mapping) else {}


def configured(run_config: Mapping[str, Any], part: str, name: str) -> Any:
    """Return what a run configuration sets for an op or a resource, unchecked."""
    return mapping(mapping(run_config.get(part)).get(name)).get("config")


def merged(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one, in which `given` has precedence; an empty part of it says nothing."""
    both = {name: merged(preset[name], given[name]) for name in preset.keys() & given.keys()
            if isinstance(preset[name], Mapping) and isinstance(given[name], Mapping)}  # fmt: skip
    said = {
        name: value for name, value in given.items() if value is not None or not isinstance(preset.get(name), Mapping)
    }
    return {**preset, **said, **both}


def problems_of_shape(run_config: Mapping[str, Any], ops: Collection[str], resources: Collection[str]) -> list[str]:
    """Return a sentence for each part or entry that is no mapping, and each name that is none of `ops`, `resources`."""
    entries = [(name, entry) for part in NAMED for name, entry in mapping(run_config.get(part)).items()]
    given = {name: mapping(entry).get("config") for name, entry in entries}
    return [
        *(
            f"`{part}` is {as_shown(run_config[part])}; use a mapping of names."
            for part in NAMED
            if not isinstance(run_config.get(part) or {}, Mapping)
        ),
        *(
            f"{name} is no asset{did_you_mean(name, ops)}."
            for name in mapping(run_config.get("ops"))
            if name not in ops
        ),
        *(
            f"{name} is no resource{did_you_mean(name, resources)}."
            for name in mapping(run_config.get("resources"))
            if name not in resources
        ),
        *(
            f"{name}: put its settings below `config:`."
            for name, entry in entries
            if entry is not None and (not isinstance(entry, Mapping) or set(entry) - {"config", "inputs", "outputs"})
        ),
        # In the words of `read_settings`, which reads those of the run's own assets.
        *(
            f"{name}: its configuration is {config!r}; give one `name: value` a line."
            for name, config in given.items()
            if config is not None and not isinstance(config, Mapping)
        ),
    ]
