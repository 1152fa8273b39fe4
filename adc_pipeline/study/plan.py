"""The plan of a study: a file that names arms, seeds, primaries and looks before any cell is made.

A plan is YAML. `arms` are variants of the grid by a short name, with `settings` of their own where they were tuned.
`primaries` and `secondaries` are contrasts, each the measure of one arm, or its difference between two arms, or against
a baseline of the same cases; `looks` are numbers of seeds. `config` is the run configuration of all cells, over which
the command's own `-c FILE` has precedence. A preset in `presets/study` is named without its path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from adc_pipeline.study.grid import VARIANTS, Variant
from adc_pipeline.study.settings import CellSettings

# Measures of the cases of the rejection contrast.
OF_CONTRASTS = ("rejection_contrast", "bits_per_byte.best_sibling")
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

    @property
    def asked_by(self) -> str | None:
        """The setting of cells that is 0 where none has the measure; None where every cell is asked for it."""
        if self.measure.startswith("policy_improvement"):
            return "contexts"
        return "max_contrasts" if self.of_contrasts else None

    @property
    def of_contrasts(self) -> bool:
        """Whether its cases are those of the rejection contrast, which are the same for every dataset."""
        return self.measure.startswith(OF_CONTRASTS)

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
    tuned: Mapping[str, Mapping[str, Any]]  # by the name of the variant
    tuning: Mapping[str, Mapping[str, Sequence[Any]]]  # by arm: values of its own settings to try
    seeds: tuple[int, ...]
    futility: tuple[int, ...]
    efficacy: tuple[int, ...]
    alpha: float
    primaries: tuple[Contrast, ...]
    secondaries: tuple[Contrast, ...]
    config: Mapping[str, Any]

    def settings(
        self, variant: str, seed: int, common: CellSettings, tried: Mapping[str, Any] | None = None
    ) -> CellSettings:
        """Return the settings of a cell; `common` has those that all cells share, `tried` has precedence over all."""
        own = {**self.tuned.get(variant, {}), **(tried or {})}
        return VARIANTS[variant].settings(replace(common, **own), seed)

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(each.measure for each in (*self.primaries, *self.secondaries)))

    @property
    def needed(self) -> list[str]:
        """The arms of the primaries, or all without a primary: a look is held when these have its seeds."""
        own = {arm for each in self.primaries for arm in (each.first, each.second)} or {*self.arms}
        return [arm for arm in self.arms if arm in own]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The cells (variant, seed) in the order in which they are made: the arms of the primaries seed by seed, then
        each other arm.
        """
        others = [[arm] for arm in self.arms if arm not in self.needed]
        return [
            (self.arms[arm].name, str(seed)) for arms in (self.needed, *others) for seed in self.seeds for arm in arms
        ]
