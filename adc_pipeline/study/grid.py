"""The grid of the study: what is varied, and under which names.

A variant is a dataset and a way to learn from it: each objective of Korbak et al. 2023, and two ablations of
`mle`, whose markers are stripped and whose verdicts are shuffled within each walk. A cell is a variant and a seed.
Every comparison changes one thing: a variant's reference is `mle` on the same dataset, and `mle` on one dataset
is compared with `mle` on another.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from adc_pipeline.training.arrangement import arrangement_facts
from adc_pipeline.training.settings import Objective, TrainingSettings
from adc_pipeline.walks.kinds import KINDS, RANDOM_WALK

BOTH = "both"
# What a variant learns from: one dataset, or the two published ones together.
SOURCES = (*KINDS, BOTH)

SEEDS = ("0", "1", "2")
# The settings that the grid decides.
VARIED = ("objective", "markers", "verdicts", "seed")
# What is said of the model that every cell starts from.
BASE = "base model"
# And of what a model gets that has learned nothing, where that is known.
CHANCE = "chance"


@dataclass(frozen=True)
class Variant:
    """What one model of the study learns from, and how; the seed apart."""

    source: str
    objective: Objective = "mle"
    markers: Literal["kept", "stripped"] = "kept"
    verdicts: Literal["true", "shuffled"] = "true"

    @property
    def name(self) -> str:
        """`top-2.mle`, `both.mle.shuffled`."""
        ablated = ["stripped"] * (self.markers == "stripped") + ["shuffled"] * (self.verdicts == "shuffled")
        return ".".join([self.source, self.objective, *ablated])

    @property
    def reference(self) -> "Variant":
        """What it differs from in one thing; itself where it is a reference."""
        return Variant(self.source)

    @property
    def evaluated_on(self) -> str:
        """The kind whose test walks it is evaluated on: its own; for `both` the one with more rejected turns."""
        return RANDOM_WALK.name if self.source == BOTH else self.source

    @property
    def markers_stand(self) -> str:
        """Where its model has its markers: `after` its turns, `before` them, or `none`."""
        return str(arrangement_facts(self.settings(TrainingSettings(), 0))["markers"])

    def settings(self, common: TrainingSettings, seed: int) -> TrainingSettings:
        """How its cell is trained; `common` says all that the grid does not vary."""
        return replace(common, objective=self.objective, markers=self.markers, verdicts=self.verdicts, seed=seed)


def _variants() -> dict[str, Variant]:
    found = []
    for source in SOURCES:
        found += [Variant(source, objective) for objective in get_args(Objective)]
        found += [Variant(source, markers="stripped"), Variant(source, verdicts="shuffled")]
    return {variant.name: variant for variant in found}


VARIANTS = _variants()


def cell_name(variant: str, seed: str) -> str:
    """The name of a cell's artefact and of its MLflow run."""
    return f"study_cell/{variant}.seed-{seed}"
