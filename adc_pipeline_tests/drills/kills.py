"""Drill: SIGKILL at random moments, then rerun. `python -m adc_pipeline_tests.drills.kills --rounds 50`.

A round runs the job `adc` (corpus, datasets, models trained and registered, evaluations, comparison) in an ADC_HOME of
its own, and kills one of these at a random moment:

- run: the process of the run, which also executes the steps (in-process executor). A training process in progress gets
  only the signal that its parent has died, while the next run starts at once;
- training: one of the training processes; in three of four rounds while it takes its steps, in the others at any moment
  of its life, most of which is imports;
- daemon: `dagster-daemon`, with a run from its queue; in half of the rounds alone, in the others with its code server
  and the run, as when a container dies. It is restarted after a second;
- database: every process of a PostgreSQL that holds Dagster's storage and, behind an MLflow server, MLflow's store.
  It is restarted after 1 to 10 s.

A round whose run ended before the kill is repeated. Otherwise the job runs again until it succeeds, at most three
times. Then each artefact must equal, byte for byte, that of an undisturbed run; no current artefact may be damaged,
after the kill or at the end; no temporary files may be left; and the newest version of each registered model must be
the current model.

A round takes two to four minutes of one core. `--target` chooses what is killed; by default it is drawn for each round
from the targets that this machine can start.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from adc_pipeline_tests.drills.checks import MADE, MODELS, check, damage, digests
from adc_pipeline_tests.drills.jobs import (
    ENDED,
    SECONDS_FOR_A_RUN,
    SETTINGS,
    Installation,
    handle_signals,
    has_exited,
    kill,
    killed_at_end,
    last_step,
    process_tree,
    trainings,
    wait_for,
    write_config,
)
from adc_pipeline_tests.drills.servers import MlflowServer, Postgres, mlflow_server, postgres, postgres_programs

TARGETS = ("run", "training", "daemon", "database")
RERUNS = 3
# Attempts at a round whose run ends before the kill.
ATTEMPTS = 5
STEPS: int = SETTINGS["top_2_model"]["max_steps"]


@dataclass
class Timings:
    """The duration of an undisturbed run and of its trainings, in order, in seconds."""

    seconds: float
    trainings: list[float] = field(default_factory=list)


@dataclass
class Round:
    """The record of a round: events, what went wrong, and the number of runs."""

    events: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    runs: int = 1
    killed: bool = False
    orphans: list[psutil.Process] = field(default_factory=list)

    def record(self, what: str) -> None:
        self.events.append(what)

    def record_kill(self, what: str) -> None:
        """Record a kill; there is none if the run ended before."""
        self.killed = True
        self.record(what)

    def check_after_kill(self, home: Path) -> None:
        """Check the current artefacts between a kill and the next run."""
        self.wrong += [f"after the kill {each}" for each in damage(home)]


def measure_run(run: subprocess.Popen[bytes]) -> Timings:
    """Wait for the end of a run, and measure its trainings."""
    began, timings = time.monotonic(), Timings(0.0)
    while run.poll() is None:
        for training in trainings(run.pid):
            timings.trainings.append(
                wait_for("The end of the training", partial(has_exited, training), SECONDS_FOR_A_RUN)
            )
        time.sleep(0.1)
    timings.seconds = time.monotonic() - began
    return timings


class Local:
    """`dagster job execute` with SQLite in ADC_HOME, for the targets run and training."""

    def __init__(self, work: Path, config: Path) -> None:
        self.config = config
        # Creating MLflow's tables takes 6 s, so they are created once and copied.
        self.tables = work / "tables.db"
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{self.tables}"]
        subprocess.run(command, check=True, capture_output=True)

    @contextmanager
    def installation(self, folder: Path) -> Iterator[Installation]:
        installation = Installation.make(folder)
        shutil.copy(self.tables, installation.home / "mlflow.db")
        yield installation

    def measure(self, installation: Installation) -> Timings:
        with killed_at_end(installation.execute(self.config)) as run:
            timings = measure_run(run)
        if len(timings.trainings) != len(MODELS):
            raise RuntimeError(f"An undisturbed run trained {len(timings.trainings)} times: {installation.output()}")
        return timings

    def rerun(self, installation: Installation) -> bool:
        with killed_at_end(installation.execute(self.config)) as run:
            return run.wait(SECONDS_FOR_A_RUN) == 0

    def kill_run(self, installation: Installation, timings: Timings, rng: random.Random, seen: Round) -> bool:
        """Kill a run's process, but not its children; return whether the run succeeded before."""
        moment = rng.uniform(0, timings.seconds)
        run = installation.execute(self.config)
        try:
            ended = run.wait(moment) == 0
            seen.record(f"the run ended before {moment:.1f} s")
            return ended
        except subprocess.TimeoutExpired:
            seen.orphans = trainings(run.pid)
            run.kill()
            run.wait()
        during = ", during a training" if seen.orphans else ""
        seen.record_kill(f"run killed after {moment:.1f} s{during}")
        return False

    def kill_training(self, installation: Installation, timings: Timings, rng: random.Random, seen: Round) -> bool:
        """Kill one of the trainings; return whether the run succeeded nevertheless."""
        which, at_any = rng.randrange(len(timings.trainings)), rng.random() < 0.25
        moment = rng.uniform(0, timings.trainings[which]) if at_any else rng.uniform(0, 0.3)
        step = 0 if at_any else rng.randrange(STEPS)
        met: list[psutil.Process] = []

        def begun() -> bool:
            met.extend(each for each in trainings(run.pid) if each not in met)
            return len(met) > which or run.poll() is not None

        with killed_at_end(installation.execute(self.config)) as run:
            wait_for("The training", begun, SECONDS_FOR_A_RUN, every=0.02)
            if len(met) > which:
                training = met[which]
                if not at_any:
                    # Wait for a step and not for a time, since the speed depends on the machine's load.
                    wait_for(f"Step {step}", lambda: has_exited(training) or last_step(training) >= step, every=0.005)
                time.sleep(moment)
                if not has_exited(training):
                    reached = last_step(training)
                    kill([training])
                    seen.record_kill(
                        f"training {which + 1} killed after {f'step {reached}' if reached >= 0 else 'its start'}"
                    )
            if not seen.killed:
                seen.record(f"training {which + 1} ended before the kill")
            return run.wait(SECONDS_FOR_A_RUN) == 0


class Queued(Local):
    """`dagster job launch` with a run queue, a daemon and SQLite, for the target daemon."""

    @contextmanager
    def installation(self, folder: Path) -> Iterator[Installation]:
        with super().installation(folder) as installation:
            installation.make_tables()
            yield installation

    def measure(self, installation: Installation) -> Timings:
        with killed_at_end(installation.daemon()):
            began = time.monotonic()
            if not self._ended_well(installation, installation.launch(self.config)):
                raise RuntimeError(f"An undisturbed run through the queue failed: {installation.output()}")
            return Timings(time.monotonic() - began)

    def kill_daemon(self, installation: Installation, timings: Timings, rng: random.Random, seen: Round) -> bool:
        """Kill the daemon, alone or with all its descendants, and restart it; return whether the run succeeded."""
        moment, alone = rng.uniform(0, timings.seconds), rng.random() < 0.5
        began = time.monotonic()
        with ExitStack() as ending:
            daemon = ending.enter_context(killed_at_end(installation.daemon()))
            run = installation.launch(self.config)
            time.sleep(max(0.0, began + moment - time.monotonic()))
            status = installation.status(run)
            family = process_tree(daemon.pid)
            # The code server outlives the daemon while one of its runs is in progress.
            ending.callback(lambda: kill([each for one in family for each in process_tree_if_same(one)]))
            kill(family[:1] if alone else family)
            daemon.wait()
            what = "alone" if alone else f"with the {len(family) - 1} processes below it"
            record = seen.record if status in ENDED else seen.record_kill
            record(f"daemon killed {what} after {moment:.1f} s, the run {status}")
            seen.check_after_kill(installation.home)
            time.sleep(1)
            ending.enter_context(killed_at_end(installation.daemon()))
            ended = self._ended_well(installation, run)
            seen.record(f"the run then ended as {installation.status(run)} after {time.monotonic() - began:.0f} s")
            if not ended:
                # Launch it again while the daemon is still running.
                seen.runs += 1
                ended = self._ended_well(installation, installation.launch(self.config))
            return ended

    def rerun(self, installation: Installation) -> bool:
        with killed_at_end(installation.daemon()):
            return self._ended_well(installation, installation.launch(self.config))

    def _ended_well(self, installation: Installation, run: str) -> bool:
        wait_for("The end of the run", lambda: installation.status(run) in ENDED, SECONDS_FOR_A_RUN, every=1)
        return installation.status(run) == "SUCCESS"


def process_tree_if_same(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and its descendants, unless its id now belongs to another process."""
    return process_tree(process.pid) if process.is_running() else []


class Databases(Local):
    """`dagster job execute` with PostgreSQL for Dagster and, behind a server, for MLflow; for the target database."""

    def __init__(self, config: Path, programs: Path) -> None:
        self.config, self.programs = config, programs
        self.servers: tuple[Postgres, MlflowServer] | None = None

    @contextmanager
    def installation(self, folder: Path) -> Iterator[Installation]:
        folder.mkdir()
        # PostgreSQL's user must be able to reach its own folder.
        folder.chmod(0o755)
        with (
            postgres(folder / "postgres", self.programs) as cluster,
            mlflow_server(folder / "mlflow", cluster.address("mlflow")) as server,
        ):
            self.servers = (cluster, server)
            yield Installation.make(folder / "job", server.address, cluster.storage())

    def kill_database(self, installation: Installation, timings: Timings, rng: random.Random, seen: Round) -> bool:
        """Kill every process of the database and restart it; return whether the run succeeded nevertheless."""
        assert self.servers is not None
        cluster, _ = self.servers
        moment, away = rng.uniform(0, timings.seconds), rng.uniform(1, 10)
        with killed_at_end(installation.execute(self.config)) as run:
            try:
                run.wait(moment)
            except subprocess.TimeoutExpired:
                processes = cluster.kill()
                seen.check_after_kill(installation.home)
                time.sleep(away)
                back = cluster.start()
                seen.record_kill(
                    f"{processes} processes of the database killed after {moment:.1f} s,"
                    f" available again {away + back:.1f} s later"
                )
            else:
                seen.record(f"the run ended before {moment:.1f} s")
            ended = run.wait(SECONDS_FOR_A_RUN) == 0
        seen.record("the run succeeded" if ended else "the run failed")
        return ended


def play(
    setup: Local,
    fault: Callable[[Installation, Timings, random.Random, Round], bool],
    timings: Timings,
    folder: Path,
    rng: random.Random,
    expected: dict[str, str],
) -> Round:
    """Do a round: a run with a fault, reruns until one succeeds, and the checks."""
    seen = Round()
    with setup.installation(folder) as installation:
        ended = fault(installation, timings, rng, seen)
        seen.check_after_kill(installation.home)
        while not ended and seen.runs <= RERUNS:
            seen.runs += 1
            ended = setup.rerun(installation)
        stray = [each for each in seen.orphans if each.is_running()]
        kill(stray)
        seen.wrong += [f"a training process outlived its run ({each.pid})" for each in stray]
        seen.wrong += (
            check(installation.home, expected, installation.tracking)
            if ended
            else [f"no rerun succeeded: {installation.output()}"]
        )
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--target", choices=TARGETS, help="what to kill in every round (default: drawn per round)")
    parser.add_argument("--conversations", type=int, default=100, help="size of the sample corpus")
    parser.add_argument("--seed", type=int, default=0, help="seed of targets and moments")
    parser.add_argument("--keep", type=Path, help="an empty or new folder to keep failed rounds in")
    given = parser.parse_args()
    handle_signals()
    programs = postgres_programs()
    targets = [given.target] if given.target else [each for each in TARGETS if each != "database" or programs]
    if programs is None:
        print("PostgreSQL or its drivers are not installed, so the database is skipped (apt-get install postgresql;")
        print("pip install 'adc-pipeline[deploy]').", flush=True)
        if given.target == "database":
            return 2
    draw = random.Random(given.seed)
    plan = [draw.choice(targets) for _ in range(given.rounds)]
    print(f"Seed {given.seed}; {given.rounds} rounds: {', '.join(f'{n} {t}' for t, n in Counter(plan).items())}.")
    passed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="adc-kills-") as name:
        work = Path(name)
        work.chmod(0o755)
        config = write_config(work / "run.yaml", given.conversations)
        local, queued = Local(work, config), Queued(work, config)
        setups: dict[str, Local] = {"run": local, "training": local, "daemon": queued}
        faults = {"run": local.kill_run, "training": local.kill_training, "daemon": queued.kill_daemon}
        if programs:
            databases = Databases(config, programs)
            setups["database"], faults["database"] = databases, databases.kill_database
        expected: dict[str, str] = {}
        timings_by_setup: dict[str, Timings] = {}
        for setup in [local, *{setups[target] for target in plan} - {local}]:
            kind = type(setup).__name__
            with setup.installation(work / f"undisturbed-{kind}") as installation:
                timings_by_setup[kind] = setup.measure(installation)
                expected = expected or digests(installation.home)
                wrong = check(installation.home, expected, installation.tracking)
            print(f"An undisturbed run ({kind.lower()}) takes {timings_by_setup[kind].seconds:.0f} s.", flush=True)
            if wrong:
                print(f"The undisturbed run failed its checks: {'; '.join(wrong)}", file=sys.stderr)
                return 1
        print(f"Digests: {', '.join(f'{name} {expected[name][:8]}' for name in MADE)}.", flush=True)
        for number, target in enumerate(plan, start=1):
            folder, began = work / f"round-{number}", time.monotonic()
            folder.mkdir()
            folder.chmod(0o755)
            # A generator for each round, so that a round can be repeated alone.
            rng = random.Random(f"{given.seed} {number} {target}")
            timings = timings_by_setup[type(setups[target]).__name__]
            try:
                for attempt in range(ATTEMPTS):
                    seen = play(setups[target], faults[target], timings, folder / f"{attempt}", rng, expected)
                    if seen.killed or seen.wrong:
                        break
                else:
                    seen.wrong.append(f"nothing was killed in {ATTEMPTS} attempts")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                seen = Round(["the drill gave up"], [str(error)])
            passed[target] += not seen.wrong
            print(
                f"Round {number} ({target}): {'; '.join(seen.events)}; {seen.runs} runs,"
                f" {time.monotonic() - began:.0f} s: {'; '.join(seen.wrong) or 'byte-identical'}",
                flush=True,
            )
            if seen.wrong and given.keep:
                shutil.copytree(folder, given.keep / folder.name, symlinks=True)
            shutil.rmtree(folder)
    print("\ntarget      rounds  passed")
    for target, rounds in Counter(plan).items():
        print(f"{target:<10}  {rounds:>6}  {passed[target]:>6}")
    print(f"{passed.total()} of {given.rounds} rounds passed.")
    return 0 if passed.total() == given.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
