"""Run the jobs of a study as processes: its inputs, its cells side by side, its result.

A process a job, since a failed cell must stop no other, and a signal to the command must end all of them as cancelled.
With `resources: training: config: {executor: ray}`, the process of a cell, which trains and evaluates, runs on the Ray
cluster with the CPUs and GPUs that this asks for; inputs and result are made here.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from adc_pipeline.core.cluster.process import RESOURCE, ClusterProcess
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.run_configuration import configured, mapping
from adc_pipeline.core.secrets import has_credentials
from adc_pipeline.core.signals import handled
from adc_pipeline.core.store.artefacts import AGAIN
from adc_pipeline.study.configuration import OPS
from adc_pipeline.study.grid import cell_label

EXECUTE = (sys.executable, "-m", "dagster", "job", "execute", "-m", "adc_pipeline.definitions")
# The job of a cell.
CELL = "study"
# Variables of this process that a cell on another node needs. Those with secrets are set there.
PASSED_ON = ("ADC_CORPUS", "ADC_HOME", "DAGSTER_HOME", "MLFLOW_TRACKING_URI")


class Stopped(Exception):
    """A signal ended the command."""


@dataclass(frozen=True)
class Launcher:
    """Runs each job as a process, with its output in a file in `logs`."""

    config: dict[str, Any]
    logs: Path
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by variant: settings of its cells
    running: set["subprocess.Popen[bytes] | ClusterProcess"] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    placement: Placement = field(default_factory=Placement)

    def of(self, variant: str) -> "Launcher":
        """Return the launcher of a variant's cells, whose own settings have precedence."""
        cell = {"config": {**mapping(configured(self.config, "ops", "study_cell")), **self.tuned.get(variant, {})}}
        return replace(self, config={**self.config, "ops": {**(self.config.get("ops") or {}), "study_cell": cell}})

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Pass on a signal that ends the command to its processes, which then end as cancelled, and start no other.

        Ctrl+C and a closed terminal reach all processes, but a container's stop and `kill` only this one.
        """

        def stop(number: int, frame: object) -> None:
            self.stopped.set()
            for process in tuple(self.running):
                process.terminate()

        with handled(stop):
            yield

    def run(self, job: str, label: str, tags: Mapping[str, str] | None = None) -> bool:
        """Run a job to its end; return whether it succeeded. After a signal, run none."""
        if self.stopped.is_set():
            return False
        ours = {name: ops for name, ops in (self.config.get("ops") or {}).items() if name in OPS[job]}
        rest = {key: value for key, value in self.config.items() if key != "ops"}
        if job == CELL:
            # It is where it trains already.
            rest["resources"] = {name: each for name, each in (rest.get("resources") or {}).items() if name != RESOURCE}
        # Where every node sees it.
        file = self.logs / f"{label}.yaml"
        # JSON is YAML.
        file.write_text(json.dumps({"loggers": {"console": {}}, **rest, "ops": ours}, default=str))
        command = [*EXECUTE, "-j", job, "-c", str(file)]
        if tags:
            command += ["--tags", json.dumps(tags)]
        with (self.logs / f"{label}.log").open("w") as log:
            return self.execute(command, log, self.placement.on_cluster and job == CELL)

    def go_on(self) -> None:
        """Raise Stopped if a signal came."""
        if self.stopped.is_set():
            raise Stopped

    def require(self, job: str, label: str, what: str) -> None:
        """Run a job that makes `what`; raise Stopped after a signal, and PipelineError if it failed otherwise."""
        if not self.run(job, label):
            self.go_on()
            raise PipelineError(f"{what} could not be made; see {self.logs / label}.log.")

    def execute(self, command: Sequence[str], log: IO[str], on_cluster: bool | None = None) -> bool:
        """Run a command of Python to its end, its output in `log`; return whether it succeeded.

        It runs where cells do, unless `on_cluster` says.
        """
        try:
            process = self.begin(command, log, self.placement.on_cluster if on_cluster is None else on_cluster)
            self.running.add(process)
            try:
                # The signal may have come before the process was known.
                if self.stopped.is_set():
                    process.terminate()
                return process.wait() == 0
            finally:
                self.running.discard(process)
        except PipelineError as error:
            log.write(f"{error}\n")
            return False

    def begin(
        self, command: Sequence[str], log: IO[str], on_cluster: bool
    ) -> "subprocess.Popen[bytes] | ClusterProcess":
        if not on_cluster:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables = {name: value for name, value in given.items() if not has_credentials(value)}
        # The same place, wherever the process begins.
        variables |= {"ADC_HOME": str(Path(given.get("ADC_HOME", ".adc")).resolve())}
        return ClusterProcess(command[1:], Path(log.name).resolve(), self.placement, variables)


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
    here = hasattr(os, "sched_getaffinity") and not launcher.placement.on_cluster
    cores = sorted(os.sched_getaffinity(0)) if here else []
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
        well = launcher.of(variant).run(CELL, cell_label(variant, seed), tags)
        with printing:
            if launcher.stopped.is_set() and not well:
                return
            done += 1
            if well and export:
                export(variant, seed)
            if not well:
                failed.append(cell_label(variant, seed))
            left = (time.monotonic() - began) / done * (len(cells) - done)
            outcome = "" if well else " FAILED"
            print(f"{done} of {len(cells)}: {variant}, seed {seed}{outcome}; {left:.0f} s left", flush=True)

    with ThreadPoolExecutor(parallel, initializer=take_share) as pool:
        list(pool.map(run, cells))
    return failed
