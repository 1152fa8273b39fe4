"""Run the whole study with one command: `python -m adc_pipeline.study [--plan PLAN] [-c FILE] [--parallel N]`.

The command makes the inputs of the cells, then every cell that is not up to date, then the result. Each cell is a run
of the job `study` in a separate process, so a failed cell stops no other and can be rerun alone, here or in Dagster's
pages, where the cells are partitions. `--parallel N` runs N cells at a time, each on its share of the cores. A cell
costs about 15 s of one core besides its training and its evaluation.

Without a plan, the study is the grid, and its result the asset `study_table`. With one, it is the plan's cells; the
small result of each is written to a folder as it comes, and cells that the folder has are not made again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from adc_pipeline.core.arguments import ArgumentParser
from adc_pipeline.core.artefacts import AGAIN, Store
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.terminal import printable
from adc_pipeline.study.cells import INPUTS, inputs_of, is_made
from adc_pipeline.study.grid import GRID_SEEDS, SEEDS, VARIANTS, cell_name
from adc_pipeline.study.plan import Plan, read_plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.study.tuning import combinations, tune
from adc_pipeline.walks.kinds import KINDS

# The assets that each job materializes.
OPS = {
    "study_inputs": ("raw_corpus", *INPUTS),
    "study": ("study_cell",),
    "study_result": ("study_table",),
}
# Assets of other jobs, which a configuration file may also set.
OTHERS = (
    *(name for kind in KINDS.values() for name in (kind.model, kind.evaluation, kind.champion)),
    "comparison",
    "preferences",
    "prune_store",
    "publish_artefacts",
)

EXECUTE = (sys.executable, "-m", "dagster", "job", "execute", "-m", "adc_pipeline.definitions")
CANCELLED = 130


@dataclass(frozen=True)
class Launcher:
    """Runs each job as a process, with its output in a file in `logs`."""

    config: dict[str, Any]
    logs: Path
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by variant: settings of its cells
    running: set["subprocess.Popen[bytes]"] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def of(self, variant: str) -> "Launcher":
        """Return the launcher of a variant's cells, whose own settings have precedence."""
        ops = self.config.get("ops") or {}
        cell = {"config": {**((ops.get("study_cell") or {}).get("config") or {}), **self.tuned.get(variant, {})}}
        return replace(self, config={**self.config, "ops": {**ops, "study_cell": cell}})

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Pass on a signal that ends the command to its processes, which then end as cancelled, and start no other.

        Ctrl+C and a closed terminal reach all processes, but a container's stop and `kill` only this one.
        """

        def stop(number: int, frame: object) -> None:
            self.stopped.set()
            for process in tuple(self.running):
                process.terminate()

        before = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, job: str, label: str, tags: Mapping[str, str] | None = None) -> bool:
        """Run a job to its end; return whether it succeeded. After a signal, run none."""
        if self.stopped.is_set():
            return False
        ours = {name: ops for name, ops in (self.config.get("ops") or {}).items() if name in OPS[job]}
        rest = {key: value for key, value in self.config.items() if key != "ops"}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file, (self.logs / f"{label}.log").open("w") as log:
            # JSON is YAML.
            json.dump({"loggers": {"console": {}}, **rest, "ops": ours}, file, default=str)
            file.flush()
            command = [*EXECUTE, "-j", job, "-c", file.name]
            if tags:
                command += ["--tags", json.dumps(tags)]
            return self.execute(command, log)

    def execute(self, command: Sequence[str], log: IO[str]) -> bool:
        """Run a command to its end, its output in `log`; return whether it succeeded."""
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
            self.running.add(process)
            try:
                # The signal may have come before the process was known.
                if self.stopped.is_set():
                    process.terminate()
                return process.wait() == 0
            finally:
                self.running.discard(process)


def parse(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = ArgumentParser(prog=program, description="Train and evaluate a grid.")
    parser.add_argument("-c", "--config", type=Path, help="run configuration of all jobs of the study, as YAML")
    parser.add_argument("--parallel", type=int, default=1, help="cells at a time")
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


def read_config(path: Path | None) -> dict[str, Any]:
    """Return the run configuration in a file; raise PipelineError if it is invalid."""
    return dict(checked(read_mapping(path), path)) if path else {}


def checked(config: Mapping[str, Any], path: object) -> Mapping[str, Any]:
    """Return a run configuration; raise PipelineError if it is invalid or the name of an asset is unknown."""
    ops = config.get("ops") or {}
    if not isinstance(ops, Mapping):
        raise PipelineError(f"{path}: `ops` is {ops!r}; use a mapping of assets to their settings.")
    known = [name for names in OPS.values() for name in names]
    if wrong := sorted(map(str, ops.keys() - {*known, *OTHERS})):
        names = ", ".join(f"{name}{did_you_mean(name, [*known, *OTHERS])}" for name in wrong)
        raise PipelineError(f"The run configuration {path} sets {names}, which is no asset.")
    for name, op in ops.items():
        given = dict(op or {}) if isinstance(op or {}, Mapping) else {"": op}
        if not isinstance(given.pop("config", None) or {}, Mapping) or given:
            raise PipelineError(f"{path}: {name} is {op!r}; give its settings as a mapping, below `config`.")
    if others := sorted(ops.keys() - known):
        print(f"The configuration also sets {', '.join(others)}, which the study does not make.")
    return config


def merged(plan: Plan, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan's run configuration with that of the command over it, setting by setting."""
    ours, theirs = plan.config.get("ops") or {}, config.get("ops") or {}
    ops = {
        name: {
            "config": {**((ours.get(name) or {}).get("config") or {}), **((theirs.get(name) or {}).get("config") or {})}
        }
        for name in {**ours, **theirs}
    }
    return {**plan.config, **config, "ops": ops}


def settings_of_cells(config: dict[str, Any]) -> CellSettings:
    """Return the settings that all cells share; raise PipelineError if they are invalid."""
    cell = (config.get("ops") or {}).get("study_cell")
    return read_settings(CellSettings, cell.get("config") if isinstance(cell, dict) else cell, "study_cell")


def run_cells(
    launcher: Launcher,
    cells: list[tuple[str, str]],
    parallel: int,
    again: bool,
    export: Callable[[str, str], None] | None = None,
) -> list[str]:
    """Run cells (variant, seed), `parallel` at a time; return the names of the failed cells.

    `export` is called with each cell that was made.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    parallel = max(1, min(parallel, len(cells)))
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for worker in range(parallel):
        shares.put(cores[worker::parallel] or cores)
    done, failed, began, printing = 0, [], time.monotonic(), threading.Lock()

    def take_share() -> None:
        # The affinity applies to this thread and to the processes that it starts.
        if cores:
            os.sched_setaffinity(0, shares.get())

    def run(cell: tuple[str, str]) -> None:
        nonlocal done
        variant, seed = cell
        # Dagster's partition keys, in the order of the dimension names.
        tags = {"dagster/partition": f"{seed}|{variant}", AGAIN: str(again).lower()}
        well = launcher.of(variant).run("study", f"{variant}.seed-{seed}", tags)
        with printing:
            if launcher.stopped.is_set() and not well:
                return
            done += 1
            if well and export:
                export(variant, seed)
            if not well:
                failed.append(f"{variant}.seed-{seed}")
            left = (time.monotonic() - began) / done * (len(cells) - done)
            outcome = "" if well else " FAILED"
            print(f"{done} of {len(cells)}: {variant}, seed {seed}{outcome}; {left:.0f} s left", flush=True)

    with ThreadPoolExecutor(parallel, initializer=take_share) as pool:
        list(pool.map(run, cells))
    return failed


def main(arguments: Sequence[str] | None = None, program: str = "python -m adc_pipeline.study") -> int:
    """Run the command `program` and return its exit status; `arguments` default to those of the process."""
    given = parse(arguments, program)
    store = Store.from_environment()
    try:
        plan = read_plan(given.plan) if given.plan else None
        config = read_config(given.config)
        variants = chosen_variants(plan, given.variants)
        if given.tune:
            if plan is None:
                raise PipelineError("`--tune` tunes an arm of a plan: give the plan with `--plan`.")
            combinations(plan, given.tune)
        if plan:
            checked(plan.config, given.plan)
            config = merged(plan, config)
        common = settings_of_cells(config)
        store.check_writable()
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    logs = store.home / "work" / "study"
    logs.mkdir(parents=True, exist_ok=True)
    launcher = Launcher(config, logs, plan.tuned if plan else {})
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
    from adc_pipeline.study.exported import export_cell, read_exported
    from adc_pipeline.study.plan_result import read_result, write_result

    folder = given.cells or store.home / "study" / "plans" / plan.name

    def export(variant: str, seed: str) -> None:
        export_cell(store.current(cell_name(variant, seed)), variant, seed, plan.measures, folder)

    try:
        known, _ = read_exported(plan, common, folder)
        there = [(variant, seed) for variant, seed in cells if (variant, int(seed)) in known]
        for cell in made:
            if cell not in there:
                export(*cell)
        wanted = [cell for cell in cells if given.again or cell not in {*made, *there}]
        print(f"{len(wanted)} cells to make, {len(cells) - len(wanted)} made already.", flush=True)
        failed = run_cells(launcher, wanted, given.parallel, given.again, export) if wanted else []
        if launcher.stopped.is_set():
            return CANCELLED
        folder.mkdir(parents=True, exist_ok=True)
        path = write_result(read_result(plan, *read_exported(plan, common, folder)), folder)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The result is {path}.")
    return report_failed(failed, launcher.logs)


def report_failed(failed: list[str], logs: Path) -> int:
    """Name the failed cells; return the command's exit status."""
    if failed:
        print(f"{len(failed)} cells failed, whose logs are in {logs}: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
