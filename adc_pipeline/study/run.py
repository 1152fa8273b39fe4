"""A run of the study: its inputs, the cells that are not up to date, then the result of the grid or of a plan.

What is made stays, so that the same command goes on after a signal or a failed cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.terminal import show
from adc_pipeline.evaluation.presentation.page import REPORT
from adc_pipeline.study.cells import inputs_of, is_made
from adc_pipeline.study.grid import SEEDS, VARIANTS, cell_name
from adc_pipeline.study.launcher import Launcher, run_cells
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.study.tuning import tune

# The variant and the seed of a cell.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """What a command asks for: cells of these variants and seeds, `parallel` at a time, also made ones if `again`.

    `common` are the settings that cells share. The methods raise PipelineError where something other than a cell fails,
    and Stopped after a signal.
    """

    launcher: Launcher
    store: Store
    common: CellSettings
    variants: Sequence[str]
    seeds: Sequence[str]
    parallel: int = 1
    again: bool = False

    def inputs(self) -> None:
        """Make the datasets and the base model."""
        print("Making the datasets and the base model ...", flush=True)
        self.launcher.require("study_inputs", "inputs", "The inputs of the study")
        # An error is reported once here, and not in the log of every cell.
        inputs_of(self.store)

    def grid(self) -> list[str]:
        """Make the cells of the grid and its result; return the names of the failed cells."""
        cells = self.chosen([(variant, seed) for seed in SEEDS for variant in VARIANTS])
        made = {
            (variant, seed)
            for variant, seed in cells
            if is_made(self.store, variant, VARIANTS[variant].settings(self.common, int(seed)))
        }
        failed = self.make(cells, self.missing(cells, made))
        self.launcher.require("study_result", "result", "The result")
        show(f"The result is in {self.store.home / self.store.current('study_table').place}: {REPORT}, study.md.")
        return failed

    def plan(self, plan: Plan, folder: Path) -> list[str]:
        """Make the cells of a plan that neither the store nor the folder of small results has, and write the result.

        Return the names of the failed cells.
        """
        from adc_pipeline.study.exported import check_same_data, export_cell, read_exported
        from adc_pipeline.study.plan_page import write_result
        from adc_pipeline.study.plan_result import read_result

        def export(variant: str, seed: str) -> None:
            export_cell(self.store.current(cell_name(variant, seed)), variant, seed, plan.measures, folder)

        cells = self.chosen(plan.cells)
        made = [
            (variant, seed)
            for variant, seed in cells
            if is_made(self.store, variant, plan.settings(variant, int(seed), self.common))
        ]
        known, _ = read_exported(plan, self.common, folder)
        there = [(variant, seed) for variant, seed in cells if (variant, int(seed)) in known]
        missing = self.missing(cells, {*made, *there})
        # A plan may ask for more than when a cell was exported.
        of_less = {key for key, cell in known.items() if any(map(cell.lacks, plan.measures))}
        exported = [(name, seed) for name, seed in made if (name, int(seed)) not in known.keys() - of_less]
        inputs = {name: artefact.digest for name, artefact in inputs_of(self.store).items()}
        check_same_data(known, inputs, folder, datasets_only=not (missing or exported))
        for cell in exported:
            export(*cell)
        failed = self.make(cells, missing, export)
        self.launcher.go_on()
        folder.mkdir(parents=True, exist_ok=True)
        path = write_result(read_result(plan, *read_exported(plan, self.common, folder)), folder)
        show(f"The result is {path}.")
        return failed

    def tune(self, plan: Plan, arm: str, folder: Path) -> None:
        """Tune an arm of a plan on the validation split."""
        if not tune(plan, arm, self.store, self.common, folder, self.launcher.execute, self.launcher.stopped.is_set):
            self.launcher.go_on()

    def chosen(self, cells: Sequence[Cell]) -> list[Cell]:
        return [(variant, seed) for variant, seed in cells if variant in self.variants and seed in self.seeds]

    def missing(self, cells: Sequence[Cell], made: set[Cell]) -> list[Cell]:
        return [cell for cell in cells if self.again or cell not in made]

    def make(
        self, cells: Sequence[Cell], missing: list[Cell], export: Callable[[str, str], None] | None = None
    ) -> list[str]:
        """Make the missing ones of the cells; return the names of the failed ones."""
        print(f"{len(missing)} cells to make, {len(cells) - len(missing)} made already.", flush=True)
        return run_cells(self.launcher, missing, self.parallel, self.again, export) if missing else []
