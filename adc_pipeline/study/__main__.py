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
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.run_configuration import merged
from adc_pipeline.core.signals import CANCELLED
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.terminal import prepare_streams, printable, show
from adc_pipeline.study.configuration import check_datasets, checked, placement_of_cells, read_config, settings_of_cells
from adc_pipeline.study.grid import GRID_SEEDS, SEEDS, VARIANTS
from adc_pipeline.study.launcher import Launcher, Stopped
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.plan_file import read_plan
from adc_pipeline.study.run import Run
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.study.tuning import combinations

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
            config = merged(plan.config, config)
        common = settings_of_cells(config)
        check_datasets(config)
        for sentence in unmeasured(plan, common) if plan else ():
            show(sentence)
        placement = placement_of_cells(config)
        check_home(store.home)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    logs = store.home / "work" / "study"
    logs.mkdir(parents=True, exist_ok=True)
    run = Run(
        launcher=Launcher(config, logs, plan.tuned if plan else {}, placement=placement),
        store=store,
        common=common,
        variants=variants,
        seeds=given.seeds or (SEEDS if plan else GRID_SEEDS),
        parallel=given.parallel if given.parallel is not None else MOST_CELLS if placement.on_cluster else 1,
        again=given.again,
    )
    try:
        with run.launcher.stoppable():
            failed = make(run, plan, given)
    except Stopped:
        print("Cancelled. What is made stays; run the same command again to go on.", file=sys.stderr)
        return CANCELLED
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    if failed:
        cells = f"{len(failed)} cell{'s' * (len(failed) > 1)} failed, with logs in {logs}"
        print(f"{cells}: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def make(run: Run, plan: Plan | None, given: argparse.Namespace) -> list[str]:
    """Make the inputs, then what the command asks for; return the names of the failed cells."""
    run.inputs()
    if plan is None:
        return run.grid()
    folder = given.cells or run.store.home / "study" / "plans" / plan.name
    if given.tune:
        run.tune(plan, given.tune, folder)
        return []
    return run.plan(plan, folder)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main())
