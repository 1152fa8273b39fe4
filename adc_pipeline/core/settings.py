"""Declare settings with their descriptions, ranges and choices, and check values against them.

The settings of every stage are plain frozen dataclasses derived from `Settings`, so that training runs without Dagster.
What a setting accepts is declared once, in its field's metadata. `Settings` checks it whenever an object is made,
`defs.run_config` shows it in Dagster's launchpad, and the reference of settings in the documentation is generated from
it. `core.spellings` reads values as people write them in files.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.secrets import HIDDEN, has_credentials, masked

# Whole numbers fit 64 bits, as in DuckDB, PyTorch and Parquet; NumPy's seeds have 32.
LARGEST = 2**63 - 1
LARGEST_SEED = 2**32 - 1
# Characters of a value in a sentence, and of a text, which may be a list of paths.
LONGEST_SHOWN = 100
LONGEST_TEXT = 4_000
# Other characters that are not printable, such as joiners, occur in names of files.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What a text of several lines may have of them.
BREAKS = str.maketrans("", "", "\n\t")


@dataclass(frozen=True)
class Range:
    """The numbers that a setting accepts; its text is what the launchpad, the reference and a sentence say."""

    minimum: float | None = None
    more_than: float | None = None
    maximum: float | None = None
    less_than: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.more_than is None or value > self.more_than)
            and (self.maximum is None or value <= self.maximum)
            and (self.less_than is None or value < self.less_than)
        )

    def __str__(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:,} to {self.maximum:,}"
        limits = {
            f"{self.minimum} or more": self.minimum,
            f"more than {self.more_than}": self.more_than,
            f"at most {self.maximum}": self.maximum,
            f"less than {self.less_than}": self.less_than,
        }
        return " and ".join(words for words, limit in limits.items() if limit is not None)


def setting(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    more_than: float | None = None,
    maximum: float | None = None,
    less_than: float | None = None,
    choices: Sequence[str] = (),
    hidden: bool = False,
    lines: bool = False,
) -> Any:
    """Return a dataclass field with a default, a description, and the range or the choices that it accepts.

    A `Literal` type declares its choices by itself. A range applies to each item of a list. A wrong value of a `hidden`
    setting is not shown, since it may be the secret for which a name was asked. A text of `lines` may have line breaks.
    """
    accepted = Range(minimum, more_than, maximum, less_than)
    metadata = {
        "description": description,
        "range": accepted,
        "choices": tuple(choices),
        "hidden": hidden,
        "lines": lines,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Declared:
    """What is declared about a setting."""

    name: str
    # int, float, bool, str, tuple or dict; `item` is the type of the values of a tuple or dict, otherwise the same.
    kind: type
    item: type
    optional: bool
    default: Any
    description: str
    range: Range
    choices: tuple[str, ...]
    hidden: bool
    lines: bool

    @property
    def accepts(self) -> str:
        """Return in words which values of its type the setting accepts; empty for all."""
        return f"one of {', '.join(filter(None, self.choices))}" if self.choices else str(self.range)

    @property
    def wanted(self) -> str:
        """Return in words which values the setting accepts."""
        if self.choices:
            return self.accepts
        one = ["a text"] if self.item is str else [1]
        example = list(self.default) if self.kind is tuple and self.default else one
        words: dict[type, str] = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            tuple: f"a list, such as {example}",
            dict: "a mapping, such as {text: body}",
        }
        return ", ".join(part for part in (words.get(self.kind, "a text"), self.accepts) if part)

    @property
    def help(self) -> str:
        """Return the description with the values that the setting accepts."""
        return f"{self.description.rstrip('.')}. Use {self.wanted}."

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, as a part of a sentence; None if nothing is."""
        if value is None and self.optional:
            return None
        if wanted := self._wanted_instead(value):
            # Masking takes longer than judging, and nearly every value is right.
            return f"`{self.name}` is {HIDDEN if self.hidden else as_shown(value)}; use {wanted}"
        return None

    def _wanted_instead(self, value: Any) -> str | None:
        if not has_type(value, self.kind):
            return self.wanted
        for item in value if self.kind is tuple else value.values() if self.kind is dict else [value]:
            if not has_type(item, self.item):
                return self.wanted
            if self.choices and item not in self.choices:
                return f"{self.accepts}{did_you_mean(item, self.choices)}"
            if self.item in (int, float):
                if not is_finite(item) or (self.item is int and abs(item) > LARGEST):
                    return "a finite number" + (f" of at most {LARGEST}" if self.item is int else "")
                if item not in self.range:
                    return str(self.range)
            if self.item is str and has_credentials(item):
                return "an address without user, password and query, since settings are recorded and shown"
            if self.kind is str and not self.choices and (wanted := self.problem_of_text(item)):
                return wanted
        return None

    def problem_of_text(self, text: str) -> str | None:
        """Return what to use in place of a text that nothing can have as a name, a path or a value; None if it can."""
        if not text.strip() and text != self.default:
            return f"a text that is not empty{', or ~ for none' if self.optional else ''}"
        if len(text) > LONGEST_TEXT:
            return f"a text of at most {LONGEST_TEXT:,} characters"
        looked_at = text.translate(BREAKS) if self.lines else text
        return "a text without control characters" if CONTROL.search(looked_at) else None


def as_shown(value: Any) -> str:
    """Return a value as a sentence shows it."""
    try:
        text = masked(repr(list(value) if isinstance(value, tuple) else value))
    except ValueError:
        # Python spells no number of more than 4,300 digits.
        return "a number of too many digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def declared(kind: type) -> dict[str, Declared]:
    """Return the settings of a dataclass by name."""
    return _declared(kind)


# Type checkers take a dataclass for no hashable argument, so the cached function accepts any.
@cache
def _declared(kind: Any) -> dict[str, Declared]:
    hints = get_type_hints(kind)
    found = {}
    for each in fields(kind):
        hint, choices = hints[each.name], each.metadata.get("choices", ())
        if optional := get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
            hint = next(argument for argument in get_args(hint) if argument is not NoneType)
        if get_origin(hint) is Literal:
            hint, choices = str, get_args(hint)
        found[each.name] = Declared(
            name=each.name,
            kind=get_origin(hint) or hint,
            item={tuple: get_args(hint)[:1], dict: get_args(hint)[1:]}.get(get_origin(hint) or hint, (hint,))[0],
            optional=optional,
            default=each.default if each.default_factory is MISSING else each.default_factory(),
            description=each.metadata.get("description", ""),
            range=each.metadata.get("range", Range()),
            choices=tuple(choices),
            hidden=each.metadata.get("hidden", False),
            lines=each.metadata.get("lines", False),
        )
    return found


def has_type(value: Any, kind: type) -> bool:
    """Return whether a value has a type; a whole number is a number, and true and false are not."""
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def is_finite(number: float) -> bool:
    """Return whether a number is finite and a float can hold it, which many a whole number cannot be held by."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


@dataclass(frozen=True)
class Settings:
    """Base of a stage's settings. Making one raises PipelineError for values that cannot work."""

    def __post_init__(self) -> None:
        """Check each value by itself; a class whose settings depend on each other extends this."""
        problems = [each.problem(getattr(self, name)) for name, each in declared(type(self)).items()]
        if wrong := [problem for problem in problems if problem]:
            raise PipelineError(f"{', and '.join(wrong)}.")


S = TypeVar("S", bound=Settings)


def with_defaults(kind: type[S], **defaults: Any) -> type[S]:
    """Return settings with other defaults, for an asset that needs them: a subclass, or `kind` if none differs."""
    changed: list[tuple[str, Any, Any]] = [
        (each.name, each.type, field(default=defaults[each.name], metadata=each.metadata))
        for each in fields(kind)
        if defaults.get(each.name, each.default) != each.default
    ]
    if not changed:
        return kind
    names = {"__module__": kind.__module__}
    return make_dataclass(kind.__name__, changed, bases=(kind,), namespace=names, frozen=True)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping with dotted names, the form of MLflow's parameters."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
