"""SIGKILL at random moments, then run again: `python -m adc_pipeline_tests.drills.kills --rounds 50`.

A round makes everything (job `adc`: corpus, datasets, both models trained and registered, evaluations, comparison) in
an ADC_HOME of its own, and kills one of these at a random moment of it:

- run: the process of the run, which is the step's as well (one executor, in process). A training that runs at that
  moment is left alone with the signal that it gets for losing its parent, while the next run begins at once;
- training: the training process below the run, that of the first or of the second model; in three of four rounds
  while it takes its steps, in the others at any moment of its life, most of which is imports;
- daemon: `dagster-daemon`, the run having come through its queue; in half of the rounds alone, in the other half with
  its code server and the run, as when a container dies. It is started again after a second;
- database: every process of a PostgreSQL that holds Dagster's storage and, behind an MLflow server, MLflow's store.
  It is started again after 1 to 10 s.

A round whose run was over before its moment came is played again. Otherwise the job runs again until it ends well,
three times at most, and everything must be as if nobody had touched it: each artefact byte for byte that of an
undisturbed run, nothing half-written in place after the kill or at the end, nothing left behind, and the newest
version of each registered model the model in place.

A round takes two to four minutes of one core. `--target` fixes what is killed; otherwise it is drawn for each round
from those that this machine can start.
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

from adc_pipeline_tests.drills.checks import MADE, check, damage, digests
from adc_pipeline_tests.drills.jobs import (
    ENDED,
    SECONDS_FOR_A_RUN,
    SETTINGS,
    Ground,
    below,
    end_as_a_whole,
    gone,
    kill,
    last_step,
    removed_at_end,
    trainings,
    wait_for,
    write_config,
)
from adc_pipeline_tests.drills.servers import MlflowServer, Postgres, mlflow_server, postgres, postgres_programs

TARGETS = ("run", "training", "daemon", "database")
RERUNS = 3
# Of a round whose run was over before anything was killed.
ATTEMPTS = 5
STEPS: int = SETTINGS["top_2_model"]["max_steps"]


@dataclass
class Course:
    """How an undisturbed run goes: its seconds, and those of its trainings, in the order in which they began."""

    seconds: float
    trainings: list[float] = field(default_factory=list)


@dataclass
class Round:
    """What a round has seen."""

    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    runs: int = 1
    killed: bool = False
    orphans: list[psutil.Process] = field(default_factory=list)

    def tell(self, what: str) -> None:
        self.story.append(what)

    def struck(self, what: str) -> None:
        """Tell of a kill that did happen; a run may be over before its moment has come."""
        self.killed = True
        self.tell(what)

    def look(self, home: Path) -> None:
        """What a reader would be served at this moment, between a kill and the next run."""
        self.wrong += [f"after the kill {each}" for each in damage(home)]


def watched(run: subprocess.Popen[bytes]) -> Course:
    """Follow a run to its end, and note when it trains."""
    began, course = time.monotonic(), Course(0.0)
    while run.poll() is None:
        for training in trainings(run.pid):
            course.trainings.append(wait_for("The end of the training", partial(gone, training), SECONDS_FOR_A_RUN))
        time.sleep(0.1)
    course.seconds = time.monotonic() - began
    return course


class Local:
    """`dagster job execute` with sqlite below ADC_HOME: the set-up of a laptop, for run and training."""

    def __init__(self, work: Path, config: Path) -> None:
        self.config = config
        # MLflow's tables cost 6 s to make, so they are made once.
        self.tables = work / "tables.db"
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{self.tables}"]
        subprocess.run(command, check=True, capture_output=True)

    @contextmanager
    def ground(self, folder: Path) -> Iterator[Ground]:
        ground = Ground.make(folder)
        shutil.copy(self.tables, ground.home / "mlflow.db")
        yield ground

    def rehearse(self, ground: Ground) -> Course:
        with removed_at_end(ground.execute(self.config)) as run:
            course = watched(run)
        if len(course.trainings) != 2:
            raise RuntimeError(f"An undisturbed run trained {len(course.trainings)} times: {ground.said()}")
        return course

    def rerun(self, ground: Ground) -> bool:
        with removed_at_end(ground.execute(self.config)) as run:
            return run.wait(SECONDS_FOR_A_RUN) == 0

    def kill_run(self, ground: Ground, course: Course, moments: random.Random, seen: Round) -> bool:
        """Kill a run's process and nothing below it; whether the run ended well all the same."""
        moment = moments.uniform(0, course.seconds)
        run = ground.execute(self.config)
        try:
            ended = run.wait(moment) == 0
            seen.tell(f"the run ended before {moment:.1f} s")
            return ended
        except subprocess.TimeoutExpired:
            seen.orphans = trainings(run.pid)
            run.kill()
            run.wait()
        during = ", in the middle of a training" if seen.orphans else ""
        seen.struck(f"run killed after {moment:.1f} s{during}")
        return False

    def kill_training(self, ground: Ground, course: Course, moments: random.Random, seen: Round) -> bool:
        """Kill the first or second training, and let the run find that out; whether it ended well all the same."""
        which, at_any = moments.randrange(len(course.trainings)), moments.random() < 0.25
        moment = moments.uniform(0, course.trainings[which]) if at_any else moments.uniform(0, 0.3)
        step = 0 if at_any else moments.randrange(STEPS)
        met: list[psutil.Process] = []

        def begun() -> bool:
            met.extend(each for each in trainings(run.pid) if each not in met)
            return len(met) > which or run.poll() is not None

        with removed_at_end(ground.execute(self.config)) as run:
            wait_for("The training", begun, SECONDS_FOR_A_RUN, every=0.02)
            if len(met) > which:
                training = met[which]
                if not at_any:
                    # By its steps and not by the clock, since how fast it is depends on what else the machine does.
                    wait_for(f"Step {step}", lambda: gone(training) or last_step(training) >= step, every=0.005)
                time.sleep(moment)
                if not gone(training):
                    reached = last_step(training)
                    kill([training])
                    seen.struck(
                        f"training {which + 1} killed after {f'step {reached}' if reached >= 0 else 'its start'}"
                    )
            if not seen.killed:
                seen.tell(f"training {which + 1} was over before its moment")
            return run.wait(SECONDS_FOR_A_RUN) == 0


class Queued(Local):
    """`dagster job launch`, a queue and a daemon, with sqlite."""

    @contextmanager
    def ground(self, folder: Path) -> Iterator[Ground]:
        with super().ground(folder) as ground:
            ground.make_tables()
            yield ground

    def rehearse(self, ground: Ground) -> Course:
        with removed_at_end(ground.daemon()):
            began = time.monotonic()
            if not self._ended_well(ground, ground.launch(self.config)):
                raise RuntimeError(f"An undisturbed run through the queue failed: {ground.said()}")
            return Course(time.monotonic() - began)

    def kill_daemon(self, ground: Ground, course: Course, moments: random.Random, seen: Round) -> bool:
        """Kill the daemon, alone or with all that it has started, and start it again; how the queued run ended."""
        moment, alone = moments.uniform(0, course.seconds), moments.random() < 0.5
        began = time.monotonic()
        with ExitStack() as ending:
            daemon = ending.enter_context(removed_at_end(ground.daemon()))
            run = ground.launch(self.config)
            time.sleep(max(0.0, began + moment - time.monotonic()))
            status = ground.status(run)
            family = below(daemon.pid)
            # The code server outlives its daemon for as long as a run of it does.
            ending.callback(lambda: kill([each for one in family for each in below_if_same(one)]))
            kill(family[:1] if alone else family)
            daemon.wait()
            what = "alone" if alone else f"with the {len(family) - 1} processes below it"
            tell = seen.tell if status in ENDED else seen.struck
            tell(f"daemon killed {what} after {moment:.1f} s, the run {status}")
            seen.look(ground.home)
            time.sleep(1)
            ending.enter_context(removed_at_end(ground.daemon()))
            ended = self._ended_well(ground, run)
            seen.tell(f"the run then ended as {ground.status(run)} after {time.monotonic() - began:.0f} s")
            if not ended:
                # Queued again at once, with the daemon still there.
                seen.runs += 1
                ended = self._ended_well(ground, ground.launch(self.config))
            return ended

    def rerun(self, ground: Ground) -> bool:
        with removed_at_end(ground.daemon()):
            return self._ended_well(ground, ground.launch(self.config))

    def _ended_well(self, ground: Ground, run: str) -> bool:
        wait_for("The end of the run", lambda: ground.status(run) in ENDED, SECONDS_FOR_A_RUN, every=1)
        return ground.status(run) == "SUCCESS"


def below_if_same(process: psutil.Process) -> list[psutil.Process]:
    """A process and what is below it, unless its number has been given to another one since."""
    return below(process.pid) if process.is_running() else []


class Databases(Local):
    """`dagster job execute` with PostgreSQL for Dagster and, behind a server, for MLflow."""

    def __init__(self, config: Path, programs: Path) -> None:
        self.config, self.programs = config, programs
        self.servers: tuple[Postgres, MlflowServer] | None = None

    @contextmanager
    def ground(self, folder: Path) -> Iterator[Ground]:
        folder.mkdir()
        # So that PostgreSQL's user reaches its own folder.
        folder.chmod(0o755)
        with (
            postgres(folder / "postgres", self.programs) as cluster,
            mlflow_server(folder / "mlflow", cluster.address("mlflow")) as server,
        ):
            self.servers = (cluster, server)
            yield Ground.make(folder / "ground", server.address, cluster.storage())

    def kill_database(self, ground: Ground, course: Course, moments: random.Random, seen: Round) -> bool:
        """Kill every process of the database and start it again; whether the run ended well all the same."""
        assert self.servers is not None
        cluster, _ = self.servers
        moment, away = moments.uniform(0, course.seconds), moments.uniform(1, 10)
        with removed_at_end(ground.execute(self.config)) as run:
            try:
                run.wait(moment)
            except subprocess.TimeoutExpired:
                processes = cluster.kill()
                seen.look(ground.home)
                time.sleep(away)
                back = cluster.start()
                seen.struck(
                    f"{processes} processes of the database killed after {moment:.1f} s,"
                    f" answering again {away + back:.1f} s later"
                )
            else:
                seen.tell(f"the run ended before {moment:.1f} s")
            ended = run.wait(SECONDS_FOR_A_RUN) == 0
        seen.tell("the run went on to its end" if ended else "the run failed")
        return ended


def play(
    setup: Local,
    fault: Callable[[Ground, Course, random.Random, Round], bool],
    course: Course,
    folder: Path,
    moments: random.Random,
    expected: dict[str, str],
) -> Round:
    """One round: a run with a fault, runs until one ends well, and what is wrong then."""
    seen = Round()
    with setup.ground(folder) as ground:
        ended = fault(ground, course, moments, seen)
        seen.look(ground.home)
        while not ended and seen.runs <= RERUNS:
            seen.runs += 1
            ended = setup.rerun(ground)
        stray = [each for each in seen.orphans if each.is_running()]
        kill(stray)
        seen.wrong += [f"a training without its run still ran ({each.pid})" for each in stray]
        seen.wrong += (
            check(ground.home, expected, ground.tracking) if ended else [f"no rerun ended well: {ground.said()}"]
        )
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--target", choices=TARGETS, help="what is killed in every round; drawn if not given")
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the targets and moments")
    parser.add_argument("--keep", type=Path, help="an empty or new folder in which the failed rounds stay")
    given = parser.parse_args()
    end_as_a_whole()
    programs = postgres_programs()
    targets = [given.target] if given.target else [each for each in TARGETS if each != "database" or programs]
    if programs is None:
        print("PostgreSQL or its drivers are not installed, so the database is left out (apt-get install postgresql;")
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
        courses: dict[str, Course] = {}
        for setup in [local, *{setups[target] for target in plan} - {local}]:
            kind = type(setup).__name__
            with setup.ground(work / f"undisturbed-{kind}") as ground:
                courses[kind] = setup.rehearse(ground)
                expected = expected or digests(ground.home)
                wrong = check(ground.home, expected, ground.tracking)
            print(f"An undisturbed run ({kind.lower()}) takes {courses[kind].seconds:.0f} s.", flush=True)
            if wrong:
                print(f"It is wrong by itself: {'; '.join(wrong)}", file=sys.stderr)
                return 1
        print(f"Digests: {', '.join(f'{name} {expected[name][:8]}' for name in MADE)}.", flush=True)
        for number, target in enumerate(plan, start=1):
            folder, began = work / f"round-{number}", time.monotonic()
            folder.mkdir()
            folder.chmod(0o755)
            # Of each round its own, so that a round can be played again alone.
            moments = random.Random(f"{given.seed} {number} {target}")
            course = courses[type(setups[target]).__name__]
            try:
                for attempt in range(ATTEMPTS):
                    seen = play(setups[target], faults[target], course, folder / f"{attempt}", moments, expected)
                    if seen.killed or seen.wrong:
                        break
                else:
                    seen.wrong.append(f"nothing was killed in {ATTEMPTS} attempts")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                seen = Round(["the drill gave up"], [str(error)])
            passed[target] += not seen.wrong
            print(
                f"Round {number} ({target}): {'; '.join(seen.story)}; {seen.runs} runs,"
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
