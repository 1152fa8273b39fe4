"""The clock jumps a day forward and a day back in the middle of a run: `python -m adc_pipeline_tests.drills.clock`.

The processes of the drill see a clock that it can put forward and back at once (`jumping_clock.c`, compiled here, so
a C compiler is needed); the machine's own is left alone. Twice the job `adc` runs: once the clock is put a day
forward while the first model trains and back while the second does, once the other way round. The run must end well,
with the bytes of an undisturbed run; no length of time that Dagster, MLflow or a training's own note tells may be
negative or longer than the run was; the tree from each model must lead to the raw corpus; and a rerun must find
nothing new.

Then the schedule `nightly` is turned on and a daemon started a minute before four in the morning. The schedule must
start one run for that night, one more when the clock is put a day forward, and none when it is put back and forward
again over the same hours; and nothing that was just made may count as overdue.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from adc_pipeline.core.artefacts import Store
from adc_pipeline_tests.drills.checks import MODELS, check, digests
from adc_pipeline_tests.drills.jobs import (
    ENDED,
    MODULE,
    SECONDS_FOR_A_RUN,
    Ground,
    end_as_a_whole,
    removed_at_end,
    stepping_or_gone,
    trainings,
    wait_for,
    write_config,
)

DAY = 24 * 60 * 60
SOURCE = Path(__file__).with_name("jumping_clock.c")
# Where the clock stands, in days from the true time, while the first model trains and while the second does.
JOURNEYS = {"forward, then back": (1, 0), "back, then forward": (-1, 0)}


class Clock:
    """A clock that the processes with its `environment` see, and that can be put to another time at once."""

    def __init__(self, work: Path, compiler: str) -> None:
        self.library, self.file = work / "jumping_clock.so", work / "clock"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self.library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self.put(0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "JUMPING_CLOCK": str(self.file)}

    def put(self, seconds: int) -> None:
        """So many seconds ahead of the true time; negative for behind."""
        # In place, since the file is mapped.
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))


def journey(clock: Clock, folder: Path, config: Path, days: tuple[int, int], expected: dict[str, str]) -> list[str]:
    """One run with two jumps, and one after it; what went wrong."""
    clock.put(0)
    ground, began = Ground.make(folder, more=clock.environment), time.monotonic()
    with removed_at_end(ground.execute(config)) as run:
        seen: set[int] = set()
        for ahead in days:
            wait_for("A training", lambda: run.poll() is not None or any(new(seen, run.pid)), SECONDS_FOR_A_RUN, 0.05)
            for training in new(seen, run.pid):
                wait_for("The first step", partial(stepping_or_gone, training), every=0.01)
                seen.add(training.pid)
            clock.put(ahead * DAY)
        code = run.wait(SECONDS_FOR_A_RUN)
    took = time.monotonic() - began
    print(f"The run ends with code {code} after {took:.0f} s.", flush=True)
    if code or len(seen) != len(days):
        return [f"it failed, or trained {len(seen)} times: {ground.failures()}"]
    wrong = check(ground.home, expected) + lengths(ground, took) + origins(ground)
    with removed_at_end(ground.execute(config)) as again:
        code = again.wait(SECONDS_FOR_A_RUN)
    told = [line for line in ground.said(20_000).splitlines() if "Nothing new" in line]
    print(f"Run again: {told[-1].split(' - ')[-1] if told else f'code {code}, something was new'}", flush=True)
    return wrong if told and not code else [*wrong, "the rerun failed or made something anew"]


def new(seen: set[int], run: int) -> list[Any]:
    return [each for each in trainings(run) if each.pid not in seen]


def lengths(ground: Ground, took: float) -> list[str]:
    """Of every length of time that is told of a run of so many seconds, those that cannot be."""
    from dagster import DagsterEventType, DagsterInstance
    from mlflow import MlflowClient

    told: dict[str, float] = {}
    with DagsterInstance.from_config(str(ground.dagster)) as instance:
        (run,) = instance.get_runs(limit=1)
        for event in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_SUCCESS):
            assert event.dagster_event is not None
            told[f"Dagster's step {event.dagster_event.step_key}"] = (
                event.dagster_event.step_success_data.duration_ms / 1000
            )
    client = MlflowClient(f"sqlite:///{ground.home / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    for made in client.search_runs(experiments):
        name = made.data.tags["adc.asset"]
        told[f"MLflow's run of {name}"] = ((made.info.end_time or 0) - made.info.start_time) / 1000
        told |= {f"{metric} of {name}": value for metric, value in made.data.metrics.items() if metric == "seconds"}
    for asset in MODELS:
        told[f"training.json of {asset}"] = json.loads(
            (Store(ground.home).current(asset).path / "training.json").read_text()
        )["seconds"]
    print(
        f"{len(told)} lengths of time are told, from {min(told.values()):.1f} to {max(told.values()):.1f} s.",
        flush=True,
    )
    return [f"{name} took {seconds:.1f} s" for name, seconds in told.items() if not 0 <= seconds <= took]


def origins(ground: Ground) -> list[str]:
    """Whether the tree from each model leads to the raw corpus that is in place, through runs that all finished."""
    from mlflow import MlflowClient

    from adc_pipeline.tracking.lineage import Records

    client = MlflowClient(f"sqlite:///{ground.home / 'mlflow.db'}")
    wrong = []
    for name in MODELS.values():
        latest = max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
        tree = {node.asset: node for node in Records([client]).above_version(latest).walk()}
        corpus = Store(ground.home).current("raw_corpus").digest
        if "raw_corpus" not in tree or tree["raw_corpus"].digest != corpus:
            wrong.append(f"the tree of {name} does not lead to the raw corpus {corpus}")
        wrong += [f"the tree of {name}: {node.asset}: {node.note}" for node in tree.values() if node.note]
    return wrong


def nights(clock: Clock, folder: Path, config: Path) -> list[str]:
    """The schedule under a daemon whose clock jumps; what went wrong."""
    ground = Ground.make(folder, more=clock.environment)
    shutil.copy(config, ground.home / "run.yaml")
    (ground.home / "automation.yaml").write_text(yaml.safe_dump({"run_config": "run.yaml"}))
    clock.put(until(2, 0))
    start = ground.start(sys.executable, "-m", "dagster", "schedule", "start", "nightly", *MODULE[:2])
    if start.wait(SECONDS_FOR_A_RUN):
        return [f"the schedule could not be turned on: {ground.said()}"]
    wrong: list[str] = []
    base = until(3, 59)
    clock.put(base)
    with removed_at_end(ground.daemon()):
        steps = (
            ("at four", None, 1, 0),
            ("a day forward", 1, 2, 0),
            ("a day back", 0, 2, 60),
            ("forward again", 1, 2, 60),
        )
        for what, day, expected, watch in steps:
            if day is not None:
                clock.put(base + day * DAY)
            wait_for(f"{expected} runs {what}", partial(has_runs, ground, expected), 300, every=1)
            time.sleep(watch)
            found = len(statuses(ground))
            print(f"The clock {what}: {found} runs of the schedule so far.", flush=True)
            if found != expected:
                wrong.append(f"{found} runs {what}, not {expected}")
            # A run that is about to start would count as having started for a day.
            wait_for("The runs' ends", partial(have_ended, ground), SECONDS_FOR_A_RUN, every=1)
    ended = statuses(ground)
    print(f"They ended as {', '.join(ended)}; freshness: {freshness(ground)}.", flush=True)
    if set(ended) != {"SUCCESS"}:
        wrong.append(f"the runs of the schedule ended as {', '.join(ended)}")
    if {"FAIL", "WARN"} & set(freshness(ground)):
        wrong.append(f"what was just made counts as overdue: {freshness(ground)}")
    return wrong


def until(hour: int, minute: int) -> int:
    """Seconds from now to this time of tomorrow, UTC."""
    now = datetime.now(UTC)
    then = (now + timedelta(days=1)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return int((then - now).total_seconds())


def statuses(ground: Ground) -> list[str]:
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(ground.dagster)) as instance:
        return [run.status.value for run in instance.get_runs()]


def has_runs(ground: Ground, number: int) -> bool:
    return len(statuses(ground)) >= number


def have_ended(ground: Ground) -> bool:
    return all(status in ENDED for status in statuses(ground))


def freshness(ground: Ground) -> dict[str, int]:
    """How many assets Dagster counts as fresh, late or overdue."""
    from dagster import AssetKey, DagsterInstance

    keys = [AssetKey(name) for name in ("raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk")]
    with DagsterInstance.from_config(str(ground.dagster)) as instance:
        records = instance.get_freshness_state_records(keys)
    return dict(Counter(records[key].freshness_state.value if key in records else "UNKNOWN" for key in keys))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.clock", description=__doc__)
    parser.add_argument("--part", choices=("run", "schedule"), help="only this; both if not given")
    given = parser.parse_args()
    end_as_a_whole()
    compiler = shutil.which("cc")
    if compiler is None:
        print("There is no C compiler (apt-get install gcc), so the clock cannot be made to jump.")
        return 2
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="adc-clock-") as name:
        work = Path(name)
        clock, config = Clock(work, compiler), write_config(work / "run.yaml", 100)
        if given.part != "schedule":
            undisturbed, began = Ground.make(work / "undisturbed"), time.monotonic()
            with removed_at_end(undisturbed.execute(config)) as run:
                if run.wait(SECONDS_FOR_A_RUN):
                    print(f"An undisturbed run failed: {undisturbed.said()}", file=sys.stderr)
                    return 1
            print(f"An undisturbed run takes {time.monotonic() - began:.0f} s.", flush=True)
            for number, (told, days) in enumerate(JOURNEYS.items()):
                print(f"A day {told}:", flush=True)
                wrong += journey(clock, work / f"journey-{number}", config, days, digests(undisturbed.home))
        if given.part != "run":
            wrong += nights(clock, work / "nights", config)
    for each in wrong:
        print(f"WRONG: {each}")
    print("The drill has failed." if wrong else "The drill has passed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
