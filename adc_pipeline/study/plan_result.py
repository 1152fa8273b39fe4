"""The result of a plan at its latest look: what its contrasts are, and what may be concluded.

A look takes the first seeds of the plan, as many as the look has, once every arm of the primaries has them. Primaries
are tested at the efficacy looks by the boundary of O'Brien and Fleming, corrected over the primaries by Holm's method
(see `looks.py`); a primary is shown if it is rejected and has the same sign in every seed. A futility look tests
nothing: it says whether an effect that matters is still possible. A primary whose measure no cell has, or which has too
few seeds or conversations for an interval, cannot be tested, and the others take its share of alpha. Secondaries have
intervals and p-values of their own, uncorrected. Below the tables stands why each contrast without a figure has none.

Beside every contrast stands the smallest effect that this many seeds and conversations would have shown with a
probability of 80 %: half the width of the interval at the level of the test, plus half of that of confidence 60 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adc_pipeline.core.engine import connected
from adc_pipeline.evaluation.intervals.estimate import Difference
from adc_pipeline.evaluation.measures import family
from adc_pipeline.study.exported import ExportedCell
from adc_pipeline.study.looks import nominal_levels, rejected
from adc_pipeline.study.plan import AGAINST, Contrast, Plan
from adc_pipeline.study.statistics import create_cases, crossed
from adc_pipeline.study.two_way import Crossed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The level whose half-width is the distance that 80 % of a symmetric distribution does not exceed on one side.
POWER_LEVEL = 0.4

# How the verdict begins that is given to an interval around 0.
NULL = "no effect that matters"

# A baseline that decides no pair has no value, and is then no zero.
ONE_ARM = """
SELECT seed, conversation, weight,
    model - $4 * weight - CASE $5 WHEN 'base' THEN base WHEN 'length' THEN length ELSE 0 END AS value
FROM cases WHERE variant = $1 AND measure = $2 AND seed IN (SELECT unnest($3)) AND value IS NOT NULL
"""
TWO_ARMS = """
SELECT seed, ours.conversation, ours.model - theirs.model AS value, ours.weight
FROM cases AS ours JOIN cases AS theirs USING (seed, measure, conversation_id, "case")
WHERE ours.variant = $1 AND theirs.variant = $4 AND measure = $2 AND seed IN (SELECT unnest($3))
"""


@dataclass(frozen=True)
class Found:
    """A contrast at a look: the estimate, each seed's value, and the smallest effect that would have been shown."""

    estimate: Difference
    by_seed: Sequence[float]
    smallest: float | None

    @property
    def signs(self) -> int:
        """In how many seeds the sign is that of the estimate."""
        return int(sum(np.sign(each) == np.sign(self.estimate.value or 0.0) for each in self.by_seed))


@dataclass(frozen=True)
class PlanResult:
    """What is known at the latest look; `look` is 0 before the first."""

    plan: Plan
    look: int
    complete: int  # seeds that every arm of the primaries has
    found: Mapping[str, Found]  # at the look, by the contrast's name; without those that have no case
    levels: Mapping[str, float]  # the two-sided level at this look of each primary that is tested
    rejected: Mapping[str, int]  # primaries, each with the look at which it was
    measured: frozenset[tuple[str, str]]  # (variant, measure) of every case
    cells: Mapping[tuple[str, int], ExportedCell]
    excluded: Mapping[str, str]

    def verdict(self, contrast: Contrast) -> str:
        """Return what may be said of a primary at this look."""
        found = self.found.get(contrast.name)
        if found is None or found.estimate.value is None:
            return f"not testable: {self.reason(contrast)}" if self.look else "no look yet"
        if contrast.name in self.rejected:
            held = self.rejected[contrast.name]
            side = f"{'above' if found.estimate.value > 0 else 'below'} 0"
            signs = f"with this sign in {found.signs} of {self.look} seeds"
            if found.signs < self.look:
                return f"not shown: beyond the boundary at {held} seeds and {side}, but {signs}"
            # What a later look finds does not take it back.
            return f"shown {f'at {held} seeds ' if held < self.look else ''}to be {side}, {signs}"
        low, high = found.estimate.low, found.estimate.high
        if low is None or high is None:
            return f"not testable: no interval can be given from {found.estimate.refused}"
        if contrast.negligible is not None and high < contrast.negligible:
            known = f"all of the interval is below {contrast.negligible}"
            # A gain is what a plan asks for; a loss of any size is below the bound too.
            lost = low <= -contrast.negligible
            return f"no gain that matters: {known}; a loss is not excluded" if lost else f"{NULL}: {known}"
        if self.look not in self.plan.efficacy:
            return "look for futility only: an effect that matters is still possible"
        return "not shown"

    def reason(self, contrast: Contrast) -> str:
        """Return why a contrast has no figure at this look."""
        arms = [arm for arm in (contrast.first, contrast.second) if arm is not None]
        made = {arm: [seed for seed in self.plan.seeds[: self.look] if self.cell(arm, seed)] for arm in arms}
        if missing := [arm for arm, seeds in made.items() if not seeds]:
            return f"no cell of {' and '.join(missing)} is made"
        for arm, seeds in made.items():
            excluded = self.cells[self.plan.arms[arm].name, seeds[0]].facts.get("excluded") or {}
            if why := excluded.get(contrast.measure) or excluded.get(family(contrast.measure)):
                return f"{str(why).removeprefix('not testable: ')} ({arm})"
        if not set.intersection(*map(set, made.values())):
            return f"{' and '.join(arms)} have no seed in common"
        first = {arm: self.cells[self.plan.arms[arm].name, seeds[0]] for arm, seeds in made.items()}
        if older := [arm for arm, cell in first.items() if cell.lacks(contrast.measure)]:
            return (
                f"the cells of {' and '.join(older)} were exported before the plan had this measure; remove their"
                " files, and they are exported or made again"
            )
        if empty := [arm for arm, cell in first.items() if cell.facts["counts"].get("conversations.evaluated") == 0]:
            return f"no conversation of the test split is evaluated ({' and '.join(empty)})"
        if without := [arm for arm in arms if (self.plan.arms[arm].name, contrast.measure) not in self.measured]:
            if contrast.asked_by and first[without[0]].facts["settings"].get(contrast.asked_by) == 0:
                return f"`{contrast.asked_by}` of study_cell is 0, so that no cell was asked for it"
            none = f"no cell of {' and '.join(without)} has a case of this measure"
            excluded = first[without[0]].facts["counts"].get(f"{family(contrast.measure)}.left_out")
            return f"{none}; {excluded:,} did not fit into the context" if excluded else none
        if contrast.second is None:
            return f"{AGAINST.get(contrast.against, contrast.against)}, which it is compared with, decides no case"
        return "the arms have no case of this measure in common"

    def cell(self, arm: str, seed: int) -> ExportedCell | None:
        return self.cells.get((self.plan.arms[arm].name, seed))

    def untested(self) -> list[str]:
        """Return a sentence for each contrast that has no figure, or no interval, at this look."""
        sentences = []
        for contrast in (*self.plan.primaries, *self.plan.secondaries) if self.look else ():
            found = self.found.get(contrast.name)
            if found is None or found.estimate.value is None:
                sentences.append(f"{contrast.name}: {self.reason(contrast)}.")
            elif found.estimate.low is None:
                sentences.append(f"{contrast.name}: no interval can be given from {found.estimate.refused}.")
        return sentences


def read_result(
    plan: Plan, cells: Mapping[tuple[str, int], ExportedCell], excluded: Mapping[str, str] | None = None
) -> PlanResult:
    """Compute the result of the cells that there are."""
    needed = [plan.arms[arm].name for arm in plan.needed]
    complete = 0
    while complete < len(plan.seeds) and all((arm, plan.seeds[complete]) in cells for arm in needed):
        complete += 1
    held = sorted(look for look in {*plan.futility, *plan.efficacy} if look <= complete)
    look = held[-1] if held else 0
    with connected() as connection:
        create_cases(connection, {key: cell.cases for key, cell in cells.items()}, plan.measures)
        measured = frozenset(connection.execute("SELECT DISTINCT variant, measure FROM cases").fetchall())
        at = {each.name: sums_of(connection, plan, each, look) for each in (*plan.primaries, *plan.secondaries)}
        testable = [each for each in plan.primaries if (sums := at[each.name]) and sums.estimate().p is not None]
        p_values: dict[str, dict[int, float]] = {each.name: {} for each in testable}
        for held_look in (each for each in held if each in plan.efficacy):
            for contrast in testable:
                sums = sums_of(connection, plan, contrast, held_look)
                p = sums.estimate().p if sums else None
                if p is not None:
                    p_values[contrast.name][held_look] = p
    hit = rejected(p_values, plan.efficacy, plan.alpha)
    # What the next of the hypotheses that are left would have to pass.
    left = max(1, len(testable) - len(hit))
    levels = nominal_levels(plan.efficacy, plan.alpha / left)
    level = levels[next((each for each in plan.efficacy if each >= look), plan.efficacy[-1])]
    found = {name: found_of(sums, level) for name, sums in at.items() if sums is not None}
    return PlanResult(
        plan,
        look,
        complete,
        found,
        levels={each.name: level for each in testable},
        rejected=hit,
        measured=measured,
        cells=cells,
        excluded=excluded or {},
    )


def found_of(sums: Crossed, level: float) -> Found:
    estimate = sums.estimate()
    smallest = None
    if estimate.low is not None:
        smallest = sums.half_width(level) + sums.half_width(POWER_LEVEL)
    return Found(estimate, sums.by_seed.tolist(), smallest)


def sums_of(connection: "DuckDBPyConnection", plan: Plan, contrast: Contrast, look: int) -> Crossed | None:
    """Return the sums of a contrast over the first `look` seeds; None without cases."""
    given = [plan.arms[contrast.first].name, contrast.measure, list(plan.seeds[:look])]
    if contrast.second is not None:
        return crossed(connection, TWO_ARMS, [*given, plan.arms[contrast.second].name])
    return crossed(connection, ONE_ARM, [*given, 0.5 if contrast.against == "half" else 0.0, contrast.against])
