"""The plan of a study: a file that names arms, seeds, primaries and looks before any cell is made.

A plan is YAML. `arms` are variants of the grid by a short name; `primaries` and `secondaries` are contrasts, each the
measure of one arm, or its difference between two arms, or against a baseline of the same cases; `looks` are numbers of
seeds. `config` is the run configuration of all cells, over which the command's own `-c FILE` has precedence. A preset
in `presets/study` is named without its path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.study.grid import SEEDS, VARIANTS, Variant

PRESETS = Path(__file__).parents[1] / "presets" / "study"

# What a measure of one arm is compared with: nothing, or another column of the same cases.
Against = Literal["zero", "half", "base", "length"]


@dataclass(frozen=True)
class Contrast:
    """A figure that a plan asks for: `first` minus `second`, or minus `against` where there is no second arm.

    An effect smaller than `negligible` does not matter: the unit is the measure's.
    """

    name: str
    measure: str
    first: str
    second: str | None = None
    against: Against = "zero"
    negligible: float | None = None

    def __str__(self) -> str:
        other = f" − {self.second}" if self.second else "" if self.against == "zero" else f" − {AGAINST[self.against]}"
        return f"{self.measure}, {self.first}{other}"


AGAINST = {"half": "0.5", "base": "base model", "length": "length"}


@dataclass(frozen=True)
class Plan:
    """A study as it was planned."""

    name: str
    question: str
    arms: Mapping[str, Variant]
    seeds: tuple[int, ...]
    futility: tuple[int, ...]
    efficacy: tuple[int, ...]
    alpha: float
    primaries: tuple[Contrast, ...]
    secondaries: tuple[Contrast, ...]
    config: Mapping[str, Any]

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(each.measure for each in (*self.primaries, *self.secondaries)))

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The cells (variant, seed) in the order in which they are made: all arms of a seed before the next seed."""
        return [(variant.name, str(seed)) for seed in self.seeds for variant in self.arms.values()]


def read_plan(named: str) -> Plan:
    """Read a plan from a file or a preset; raise PipelineError for what cannot be carried out."""
    path = PRESETS / f"{named}.yaml"
    if not path.exists():
        path = Path(named)
    if not path.exists():
        presets = ", ".join(sorted(each.stem for each in PRESETS.glob("*.yaml")))
        raise PipelineError(f"{path} does not exist: give a plan (a YAML file), or a preset ({presets}).")
    return Reader(path).plan()


class Reader:
    """Reads the sections of one plan; every error names the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, read_mapping(path)

    def fail(self, sentence: str) -> PipelineError:
        return PipelineError(f"{self.path}: {sentence}")

    def plan(self) -> Plan:
        known = ("question", "arms", "seeds", "looks", "alpha", "primaries", "secondaries", "config")
        if wrong := [name for name in self.content if name not in known]:
            raise self.fail(f"`{wrong[0]}`{did_you_mean(str(wrong[0]), known)} is no part of a plan.")
        arms = self.arms()
        seeds = self.integers(self.content.get("seeds"), "seeds")
        if unknown := [seed for seed in seeds if str(seed) not in SEEDS]:
            raise self.fail(f"`seeds` has {unknown[0]}; use {SEEDS[0]} to {SEEDS[-1]}.")
        looks = self.mapping("looks")
        efficacy = self.integers(looks.get("efficacy"), "looks.efficacy")
        futility = self.integers(looks.get("futility", []), "looks.futility", empty=True)
        if list(efficacy) != sorted(set(efficacy)) or efficacy[-1] != len(seeds):
            raise self.fail(f"`looks.efficacy` has to rise and to end with the number of seeds, {len(seeds)}.")
        alpha = self.content.get("alpha", 0.05)
        if not isinstance(alpha, float) or not 0 < alpha < 1:
            raise self.fail(f"`alpha` is {alpha!r}; use a number between 0 and 1.")
        return Plan(
            name=self.path.stem,
            question=str(self.content.get("question", "")).strip(),
            arms=arms,
            seeds=seeds,
            futility=futility,
            efficacy=efficacy,
            alpha=alpha,
            primaries=self.contrasts("primaries", arms),
            secondaries=self.contrasts("secondaries", arms),
            config=self.mapping("config"),
        )

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.content.get(name) or {}
        if not isinstance(value, Mapping):
            raise self.fail(f"`{name}` is {value!r}; use a mapping.")
        return value

    def integers(self, value: object, name: str, empty: bool = False) -> tuple[int, ...]:
        if not isinstance(value, list) or not all(isinstance(each, int) for each in value) or not (value or empty):
            raise self.fail(f"`{name}` is {value!r}; use a list of whole numbers.")
        return tuple(value)

    def arms(self) -> dict[str, Variant]:
        arms = {}
        for name, given in self.mapping("arms").items():
            if not isinstance(given, Mapping) or not set(given) <= {"dataset", "objective", "markers", "verdicts"}:
                raise self.fail(f"the arm {name} is {given!r}; use dataset, objective, markers and verdicts.")
            variant = Variant(
                given.get("dataset", ""), **{key: value for key, value in given.items() if key != "dataset"}
            )
            if VARIANTS.get(variant.name) != variant:
                raise self.fail(f"the arm {name} is {variant.name}, which is none of {', '.join(VARIANTS)}.")
            arms[str(name)] = variant
        if not arms:
            raise self.fail("`arms` names none.")
        return arms

    def contrasts(self, section: str, arms: Mapping[str, Variant]) -> tuple[Contrast, ...]:
        found = []
        allowed = {field.name for field in fields(Contrast)} - {"name"}
        for name, given in self.mapping(section).items():
            if not isinstance(given, Mapping) or not {"measure", "first"} <= set(given) <= allowed:
                raise self.fail(f"{name} of `{section}` is {given!r}; use measure, first and {', '.join(allowed)}.")
            contrast = Contrast(str(name), **given)
            for arm in (contrast.first, contrast.second):
                if arm is not None and arm not in arms:
                    raise self.fail(
                        f"{name} of `{section}` compares the arm {arm}{did_you_mean(arm, arms)}, which is none."
                    )
            if contrast.against != "zero" and (contrast.second or contrast.against not in AGAINST):
                raise self.fail(
                    f"{name} of `{section}` has `against` {contrast.against!r}; use one of {', '.join(AGAINST)}."
                )
            found.append(contrast)
        return tuple(found)
