"""Read settings as people write them in a file or in the launchpad.

YAML 1.1, which Python's readers follow, takes `1e-4` for a text, and YAML 1.2, which a browser follows, does so with
`1_000`. A value is therefore read by the type of its setting, not by the type that a YAML reader gave it. `~` (null)
stands for the default, and `{env: NAME}` for the content of an environment variable.
"""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.secrets import is_secret
from adc_pipeline.core.settings import Declared, Settings, declared, is_finite

S = TypeVar("S", bound=Settings)

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_settings(kind: type[S], values: Any, owner: str) -> S:
    """Return settings made of the values that a person gave to `owner`, an asset or a file.

    Raises PipelineError, one sentence that begins with `owner`, for names that there are not and values that cannot
    work.
    """
    known = declared(kind)
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise PipelineError(f"{owner}: its configuration is {values!r}; give one `name: value` a line.")
    if unknown := [f"{name}{did_you_mean(name, known)}" for name in values if name not in known]:
        raise PipelineError(f"{owner} has no setting {', '.join(unknown)}.")
    try:
        read = {name: read_value(known[name], value) for name, value in values.items()}
        return kind(**read)
    except PipelineError as error:
        raise PipelineError(f"{owner}: {error}") from error


def read_value(setting: Declared, value: Any) -> Any:
    """Return a value in its setting's own type where it can be read as that; otherwise as it is."""
    if isinstance(value, Mapping) and set(value) == {"env"} and setting.kind is not dict:
        value = from_environment(setting, str(value["env"]))
    if value is None:
        return None if setting.optional else setting.default
    if setting.kind is tuple and isinstance(value, list | tuple):
        return tuple(read_scalar(setting.item, item) for item in value)
    if setting.kind is dict and isinstance(value, Mapping):
        return {str(name): read_scalar(setting.item, item) for name, item in value.items()}
    return read_scalar(setting.kind, value)


def from_environment(setting: Declared, name: str) -> str:
    """Return the content of an environment variable; PipelineError if it is not set, or named as a secret is."""
    if is_secret(name):
        raise PipelineError(
            f"`{setting.name}` takes its value from the environment variable {name}, and settings are recorded in"
            " artefacts and MLflow: give the value in a variable whose name does not stand for a secret."
        )
    try:
        return os.environ[name]
    except KeyError:
        raise PipelineError(
            f"`{setting.name}` takes its value from the environment variable {name}, which is not set."
        ) from None


def read_scalar(kind: type, value: Any) -> Any:
    """Return a scalar in the type `kind` where it can be read as that; otherwise as it is."""
    if isinstance(value, int) and not is_finite(value):
        return value
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if kind is bool and isinstance(value, str):
        return BOOLEANS.get(value.strip().lower(), value)
    if kind in (int, float) and isinstance(value, str):
        value = as_number(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def as_number(text: str) -> int | float | str:
    """Return the number that a text spells; otherwise the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
