"""Figures by source equal those of an evaluation that has only the conversations of that source."""

from math import exp
from pathlib import Path

import numpy as np
import pytest

from adc_pipeline.evaluation.by_source import figures_by_source
from adc_pipeline.evaluation.case_table import write_case_table
from adc_pipeline.evaluation.measures import Measured, estimates

CONVERSATIONS = [f"c{number:02}" for number in range(40)]
# Two communities, and two conversations of a third.
SOURCES = ["cooking" if number % 3 else "o'hare\n%" for number in range(38)] + ["tiny", "tiny"]


def measured(name: str, seed: int, conversations: list[int], exponential: bool = False) -> Measured:
    dice = np.random.default_rng(seed)
    number = np.repeat(conversations, 3)
    return Measured(
        name, number, np.array([f"case{each}" for each in range(len(number))], dtype=np.str_),
        dice.random(len(number)), np.random.default_rng(9).integers(1, 9, len(number)).astype(float), exponential,
    )  # fmt: skip


def test_each_source_has_the_figures_of_its_own_conversations(tmp_path: Path) -> None:
    everything = list(range(len(CONVERSATIONS)))
    model = [measured("preference_accuracy", 1, everything), measured("perplexity.accepted", 2, everything, True),
             measured("policy", 3, everything)]  # fmt: skip
    base = [measured("preference_accuracy", 4, everything), measured("perplexity.accepted", 5, everything, True)]
    write_case_table(tmp_path, CONVERSATIONS, SOURCES, {"model": model, "base": base})

    found = {(each.measure, each.source): each for each in figures_by_source(tmp_path, draws=50, seed=3)}
    assert len(found) == 3 * 3
    for source in set(SOURCES):
        of = np.repeat([each == source for each in SOURCES], 3)
        for number, ours in enumerate(model):
            figure = found[ours.name, source]
            series = [ours, *base[number : number + 1]]
            alone = [Measured(each.name, each.conversation[of], each.case[of], each.value[of], each.weight[of],
                              each.exponential) for each in series]  # fmt: skip
            # By hand, then with the intervals.
            ratio = float(alone[0].value.sum() / alone[0].weight.sum())
            assert figure.model.value == pytest.approx(exp(ratio) if ours.exponential else ratio)
            assert figure.model.conversations == SOURCES.count(source)
            expected = estimates(alone, 50, 3)
            for ours_found, theirs in zip((figure.model, figure.base), (*expected, None), strict=False):
                if theirs is None:
                    assert ours_found is None
                    continue
                assert ours_found is not None
                shown = (ours_found.value, ours_found.low, ours_found.high, ours_found.cases)
                assert shown == pytest.approx((theirs.value, theirs.low, theirs.high, theirs.cases))
