"""Run the whole study with one command: `python -m adc_pipeline.study [--plan PLAN] [-c FILE] [--parallel N]`.

The command makes the inputs of the cells, then every cell that is not up to date, then the result. Each cell is a run
of the job `study` in a separate process, so a failed cell stops no other and can be rerun alone, here or in Dagster's
pages, where the cells are partitions. `--parallel N` runs N cells at a time, each on its share of the cores, or on the
Ray cluster if the resource `training` is placed there. A cell costs about 15 s of one core besides its training and its
evaluation.

Without a plan, the study is the grid, and its result the asset `study_table`. With one, it is the plan's cells; the
small result of each is written to a folder as it comes, and cells that the folder has are not made again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adc_pipeline.core.arguments import ArgumentParser
from adc_pipeline.core.artefacts import Store
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.terminal import printable, show
from adc_pipeline.study.cells import inputs_of, is_made
from adc_pipeline.study.configuration import checked, merged, placement_of_cells, read_config, settings_of_cells
from adc_pipeline.study.grid import GRID_SEEDS, SEEDS, VARIANTS, cell_name
from adc_pipeline.study.launcher import Launcher, run_cells
from adc_pipeline.study.plan import Plan, read_plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.study.tuning import combinations, tune

# The exit status of a command that a signal ended.
CANCELLED = 130
# Each waits in a thread for its turn on the cluster.
MOST_CELLS = 1000


def parse(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = ArgumentParser(prog=program, description="Train and evaluate a grid.")
    parser.add_argument("-c", "--config", type=Path, help="run configuration of all jobs of the study, as YAML")
    parser.add_argument("--parallel", type=int, help="cells at a time; 1, or on a cluster all")
    parser.add_argument("--plan", metavar="PLAN", help="a plan (a YAML file, or a preset) instead of the grid")
    parser.add_argument(
        "--cells", type=Path, metavar="FOLDER", help="with a plan: where the small result of each cell is kept"
    )
    parser.add_argument("--variants", nargs="*", metavar="NAME", help="only these variants, or arms of the plan")
    parser.add_argument("--tune", metavar="ARM", help="with a plan: tune an arm on validation instead of making cells")
    parser.add_argument("--seeds", nargs="*", choices=SEEDS, metavar="SEED")
    parser.add_argument("--again", action="store_true", help="also cells that are made already")
    return parser.parse_args(arguments)


def chosen_variants(plan: Plan | None, names: Sequence[str] | None) -> list[str]:
    """Return the variants of `--variants`: names of arms with a plan, else names of variants; all if it is not given.

    Raise PipelineError for an unknown name.
    """
    known = {name: variant.name for name, variant in (plan.arms if plan else VARIANTS).items()}
    if wrong := [name for name in names or () if name not in known]:
        what = f"arm of the plan {plan.name}" if plan else "variant"
        raise PipelineError(
            f"`--variants` names {printable(wrong[0])}, which is no {what}{did_you_mean(wrong[0], known)}; use"
            f" one of {', '.join(known)}."
        )
    return [known[name] for name in names or known]


def check_options(plan: Plan | None, given: argparse.Namespace) -> None:
    """Raise PipelineError for options that would have no effect on this plan, or without one."""
    for option, value in (("--tune", given.tune), ("--cells", given.cells)):
        if value and plan is None:
            raise PipelineError(f"`{option}` is an option of a plan: give the plan with `--plan`.")
    if plan is None:
        return
    if given.tune:
        combinations(plan, given.tune)
    own = list(map(str, plan.seeds))
    if wrong := [seed for seed in given.seeds or () if seed not in own]:
        raise PipelineError(
            f"`--seeds` names {wrong[0]}, which is no seed of the plan {plan.name}; use one of {', '.join(own)}."
        )


def unmeasured(plan: Plan, common: CellSettings) -> list[str]:
    """Return a sentence for each contrast that no cell of these settings will have a case of."""
    return [
        f"No cell will have a case of {each.name} ({each.measure}), because `{each.asked_by}` of study_cell is 0."
        for each in (*plan.primaries, *plan.secondaries)
        if each.asked_by and getattr(common, each.asked_by) == 0
    ]


def main(arguments: Sequence[str] | None = None, program: str = "python -m adc_pipeline.study") -> int:
    """Run the command `program` and return its exit status; `arguments` default to those of the process."""
    given = parse(arguments, program)
    store = Store.from_environment()
    try:
        plan = read_plan(given.plan) if given.plan else None
        config = read_config(given.config)
        variants = chosen_variants(plan, given.variants)
        check_options(plan, given)
        if plan:
            checked(plan.config, given.plan)
            config = merged(plan, config)
        common = settings_of_cells(config)
        for sentence in unmeasured(plan, common) if plan else ():
            show(sentence)
        placement = placement_of_cells(config)
        store.check_writable()
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    logs = store.home / "work" / "study"
    logs.mkdir(parents=True, exist_ok=True)
    launcher = Launcher(config, logs, plan.tuned if plan else {}, placement=placement)
    if given.parallel is None:
        given.parallel = MOST_CELLS if placement.on_cluster else 1
    with launcher.stoppable():
        status = run_study(launcher, store, plan, common, variants, given)
    if launcher.stopped.is_set() and status:
        print("Cancelled. What is made stays; run the same command again to go on.", file=sys.stderr)
        return CANCELLED
    return status


def run_study(
    launcher: Launcher,
    store: Store,
    plan: Plan | None,
    common: CellSettings,
    variants: Sequence[str],
    given: argparse.Namespace,
) -> int:
    """Make the inputs, the cells of `variants` and the result; return the exit status, not 0 after a signal."""
    logs = launcher.logs
    print("Making the datasets and the base model ...", flush=True)
    if not launcher.run("study_inputs", "inputs"):
        if launcher.stopped.is_set():
            return CANCELLED
        print(f"The inputs of the study could not be made; see {logs / 'inputs.log'}.", file=sys.stderr)
        return 1
    try:
        # Report an error once here, not in the log of every cell.
        inputs_of(store)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    all_cells = plan.cells if plan else [(variant, seed) for seed in SEEDS for variant in VARIANTS]
    seeds = given.seeds or (SEEDS if plan else GRID_SEEDS)
    cells = [(variant, seed) for variant, seed in all_cells if variant in variants and seed in seeds]
    settings_of = {
        (variant, seed): (
            plan.settings(variant, int(seed), common) if plan else VARIANTS[variant].settings(common, int(seed))
        )
        for variant, seed in cells
    }
    made = [cell for cell in cells if is_made(store, cell[0], settings_of[cell])]
    if plan and given.tune:
        try:
            folder = given.cells or store.home / "study" / "plans" / plan.name
            best = tune(plan, given.tune, store, common, folder, launcher.execute, launcher.stopped.is_set)
        except PipelineError as error:
            print(error, file=sys.stderr)
            return 1
        return 0 if best else CANCELLED
    if plan:
        return run_plan(launcher, store, plan, common, cells, made, given)
    wanted = [cell for cell in cells if given.again or cell not in made]
    print(f"{len(wanted)} cells to make, {len(cells) - len(wanted)} made already.", flush=True)
    failed = run_cells(launcher, wanted, given.parallel, given.again) if wanted else []
    if not launcher.run("study_result", "result"):
        if launcher.stopped.is_set():
            return CANCELLED
        print(f"The result could not be made; see {logs / 'result.log'}.", file=sys.stderr)
        return 1
    print(f"The result is in {store.home / store.current('study_table').place}: report.html, study.md.")
    return report_failed(failed, logs)


def run_plan(
    launcher: Launcher,
    store: Store,
    plan: Plan,
    common: CellSettings,
    cells: list[tuple[str, str]],
    made: list[tuple[str, str]],
    given: argparse.Namespace,
) -> int:
    """Make the cells of a plan that neither the store nor the folder of small results has, and write the result."""
    from adc_pipeline.study.exported import check_same_data, export_cell, read_exported
    from adc_pipeline.study.plan_result import read_result, write_result

    folder = given.cells or store.home / "study" / "plans" / plan.name

    def export(variant: str, seed: str) -> None:
        export_cell(store.current(cell_name(variant, seed)), variant, seed, plan.measures, folder)

    try:
        known, _ = read_exported(plan, common, folder)
        there = [(variant, seed) for variant, seed in cells if (variant, int(seed)) in known]
        wanted = [cell for cell in cells if given.again or cell not in {*made, *there}]
        # A plan may ask for more than when a cell was exported.
        of_less = {key for key, cell in known.items() if any(map(cell.lacks, plan.measures))}
        exported = [(name, seed) for name, seed in made if (name, int(seed)) not in known.keys() - of_less]
        inputs = {name: artefact.digest for name, artefact in inputs_of(store).items()}
        check_same_data(known, inputs, folder, datasets_only=not (wanted or exported))
        for cell in exported:
            export(*cell)
        print(f"{len(wanted)} cells to make, {len(cells) - len(wanted)} made already.", flush=True)
        failed = run_cells(launcher, wanted, given.parallel, given.again, export) if wanted else []
        if launcher.stopped.is_set():
            return CANCELLED
        folder.mkdir(parents=True, exist_ok=True)
        path = write_result(read_result(plan, *read_exported(plan, common, folder)), folder)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    show(f"The result is {path}.")
    return report_failed(failed, launcher.logs)


def report_failed(failed: list[str], logs: Path) -> int:
    """Name the failed cells; return the command's exit status."""
    if failed:
        cells = f"{len(failed)} cell{'s' * (len(failed) > 1)} failed, with logs in {logs}"
        print(f"{cells}: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
