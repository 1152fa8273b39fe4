"""Convert a stage's settings into Dagster run configuration.

Stages declare their settings as plain dataclasses, because training runs without Dagster. This module makes of such a
dataclass the `Config` that the launchpad shows, with descriptions and defaults, so that each setting is declared once.
"""

from dataclasses import MISSING, fields, is_dataclass
from dataclasses import Field as DataclassField
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import Field, create_model

S = TypeVar("S")


class SettingsConfig(dg.Config, Generic[S]):
    """Run configuration with the fields of a settings dataclass: `SettingsConfig[RankingSettings]`."""

    settings_type: ClassVar[type]

    def __class_getitem__(cls, settings: Any) -> Any:
        return (
            config_for(settings)
            if isinstance(settings, type) and is_dataclass(settings)
            else super().__class_getitem__(settings)
        )

    def settings(self) -> S:
        """Return the settings dataclass; raise PipelineError if a value fails its checks."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        made: S = self.settings_type(**values | tuples)
        return made


@cache
def config_for(settings: type[S]) -> type[SettingsConfig[S]]:
    """Return the configuration class of a settings dataclass."""
    hints = get_type_hints(settings)
    declared: dict[str, Any] = {
        field.name: (
            _as_list(hints[field.name]),
            Field(default=_default(field), description=field.metadata.get("description")),
        )
        for field in fields(settings)  # type: ignore[arg-type]
    }
    made = create_model(
        settings.__name__.replace("Settings", "Config"),
        __base__=SettingsConfig,
        __doc__=settings.__doc__,
        **declared,
    )
    made.settings_type = settings
    return made


def _default(field: "DataclassField[Any]") -> Any:
    """Return a field's default, a tuple as a list, since Dagster's configuration has no tuples."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return list(default) if isinstance(default, tuple) else default


def _as_list(annotation: Any) -> Any:
    """Return a type annotation, a tuple's as a list's, since Dagster's configuration has no tuples."""
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return annotation
