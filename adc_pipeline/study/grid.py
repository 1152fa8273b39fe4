"""The grid of the study: variants, seeds and their names.

A variant is a dataset and a way to learn from it: each objective, and three ablations of `mle`, with markers stripped,
with one neutral marker, and with verdicts shuffled within each walk. Of ascending there are two more, which learn for a
while from replies of their own (see `second_round.py`) or from as many of people's. A cell is a variant and a seed.
Every comparison changes one factor: a variant is compared with its reference, `mle` on the same dataset, and `mle` on
one dataset with `mle` on another.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

from adc_pipeline.training.settings import Objective, TrainingSettings
from adc_pipeline.training.texts.arrangement import arrangement_facts
from adc_pipeline.walks.kinds import ASCENDING, KINDS, RANDOM_WALK, TOP_2

BOTH = "both"
# The kinds that it stands for: the two published ones.
PUBLISHED = (TOP_2.name, RANDOM_WALK.name)
# The training data of a variant: one dataset, or the two published ones together.
SOURCES = (*KINDS, BOTH)

# The seeds that a cell may have, and those of the grid where no others are asked for.
SEEDS = tuple(map(str, range(10)))
GRID_SEEDS = SEEDS[:3]
# The settings that the grid varies.
VARIED = ("objective", "markers", "verdicts", "second_round", "seed")
# Label of the model that every cell starts from.
BASE = "base model"
# Label of the score of a model that has learned nothing, where it is known.
CHANCE = "chance"


S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class Variant:
    """The training data and training settings of a cell, without the seed."""

    source: str
    objective: Objective = "mle"
    markers: Literal["kept", "stripped", "neutral"] = "kept"
    verdicts: Literal["true", "shuffled"] = "true"
    second_round: Literal["none", "own", "people"] = "none"

    @property
    def name(self) -> str:
        """The variant's name, such as `top-2.mle` or `both.mle.shuffled`."""
        ablated = [self.markers] * (self.markers != "kept") + ["shuffled"] * (self.verdicts == "shuffled")
        second = [f"second-{self.second_round}"] * (self.second_round != "none")
        return ".".join([self.source, self.objective, *ablated, *second])

    @property
    def reference(self) -> "Variant":
        """The variant from which this one differs in one factor; itself if it is a reference."""
        return Variant(self.source)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The kinds of the training walks."""
        return PUBLISHED if self.source == BOTH else (self.source,)

    @property
    def evaluated_on(self) -> str:
        """The kind of the test walks: its own; for `both` random-walk, which has more rejected turns."""
        return RANDOM_WALK.name if self.source == BOTH else self.source

    @property
    def markers_stand(self) -> str:
        """Where the model's markers are: `after` the turns, `before` them, `none`, or `neutral` after the turns."""
        return str(arrangement_facts(replace(self, second_round="none").settings(TrainingSettings(), 0))["markers"])

    def settings(self, common: S, seed: int) -> S:
        """Return a cell's settings; `common` has those that the grid does not vary."""
        second: dict[str, Any] = {} if self.second_round == "none" else {"second_round": self.second_round}
        return replace(
            common, objective=self.objective, markers=self.markers, verdicts=self.verdicts, seed=seed, **second
        )


def _variants() -> dict[str, Variant]:
    found = []
    for source in SOURCES:
        found += [Variant(source, objective) for objective in get_args(Objective)]
        found += [Variant(source, markers="stripped"), Variant(source, markers="neutral")]
        found += [Variant(source, verdicts="shuffled")]
    found += [Variant(ASCENDING.name, second_round="own"), Variant(ASCENDING.name, second_round="people")]
    return {variant.name: variant for variant in found}


VARIANTS = _variants()


def cell_label(variant: str, seed: int | str) -> str:
    """Return what a cell is called in names of files and in messages."""
    return f"{variant}.seed-{seed}"


def cell_name(variant: str, seed: str) -> str:
    """Return the name of a cell's artefact, which is also that of its MLflow run."""
    return f"study_cell/{cell_label(variant, seed)}"
