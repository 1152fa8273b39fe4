"""The grid: every cell has a name of its own, and changes one thing from what it is compared with."""

import dataclasses
from typing import get_args

import pytest

from adc_pipeline.study.grid import GRID_SEEDS, SOURCES, VARIANTS, Variant, cell_name
from adc_pipeline.training.settings import MARKERS_FIRST, PREFERENCES, Objective, TrainingSettings


def test_the_grid_is_every_objective_and_the_ablations_on_every_dataset() -> None:
    for source in SOURCES:
        of = {variant for variant in VARIANTS.values() if variant.source == source}
        assert {variant.objective for variant in of} == set(get_args(Objective))
        assert [sum(variant.markers == each for variant in of) for each in ("stripped", "neutral")] == [1, 1]
        assert sum(variant.verdicts == "shuffled" for variant in of) == 1
    names = {cell_name(name, seed) for name in VARIANTS for seed in GRID_SEEDS}
    assert len(names) == len(VARIANTS) * len(GRID_SEEDS) == 186


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_its_reference_in_one_thing(name: str) -> None:
    variant = VARIANTS[name]
    assert variant.name == name
    ours, theirs = dataclasses.asdict(variant), dataclasses.asdict(variant.reference)
    assert sum(ours[field] != theirs[field] for field in ours) == (0 if variant == variant.reference else 1)
    assert variant.reference.name in VARIANTS


def test_a_cell_keeps_what_the_grid_does_not_vary() -> None:
    common = TrainingSettings(learning_rate=1e-3, sequence_length=128)
    settings = Variant("both", "awr").settings(common, 2)
    assert (settings.objective, settings.seed, settings.learning_rate) == ("awr", 2, 1e-3)
    assert Variant("top-2", verdicts="shuffled").settings(common, 0).verdicts == "shuffled"


def test_a_variant_knows_where_its_markers_stand() -> None:
    stand = {name: variant.markers_stand for name, variant in VARIANTS.items() if variant.markers_stand != "after"}
    before = {f"{source}.{objective}": "before" for source in SOURCES for objective in MARKERS_FIRST}
    before |= {f"{source}.{objective}": "neutral" for source in SOURCES for objective in PREFERENCES}
    ablated = {"stripped": "none", "neutral": "neutral"}
    assert stand == before | {f"{source}.mle.{name}": place for source in SOURCES for name, place in ablated.items()}
