"""Drill: the clock jumps by a day during a run and under a schedule. `python -m adc_pipeline_tests.drills.clock`.

The drill's processes see a clock that the drill can set (`jumping_clock.c`, which needs a C compiler); the machine's
clock does not change. The job `adc` runs twice: once the clock jumps a day forward while the first model trains and
back while the second does, once the other way round. Each run must succeed with the bytes of an undisturbed run. No
duration in Dagster, MLflow or `training.json` may be negative or longer than the run. The lineage of each model must
lead to the raw corpus, and a rerun must find everything up to date.

Then the schedule `nightly` is turned on and a daemon is started at 03:59. The schedule must start one run that night,
one more when the clock jumps a day forward, and none when it jumps back and forward again over the same hours. No asset
that was just made may count as overdue.
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

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline_tests.drills.checks import MODELS, check, digests
from adc_pipeline_tests.drills.jobs import (
    ENDED,
    MODULE,
    SECONDS_FOR_A_RUN,
    Installation,
    handle_signals,
    killed_at_end,
    stepping_or_exited,
    trainings,
    wait_for,
    write_config,
)

DAY = 24 * 60 * 60
SOURCE = Path(__file__).with_name("jumping_clock.c")
# Days by which the clock is ahead of the true time from the first model's training on, and from the second's.
JUMPS = {"forward, then back": (1, 0), "back, then forward": (-1, 0)}


class Clock:
    """A clock that processes with its `environment` see, and that can be set while they run."""

    def __init__(self, work: Path, compiler: str) -> None:
        self.library, self.file = work / "jumping_clock.so", work / "clock"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self.library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self.put(0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "JUMPING_CLOCK": str(self.file)}

    def put(self, seconds: int) -> None:
        """Set the clock to so many seconds ahead of the true time; negative for behind."""
        # The file is overwritten, not replaced, since processes have it mapped.
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))


def run_with_jumps(
    clock: Clock, folder: Path, config: Path, days: tuple[int, int], expected: dict[str, str]
) -> list[str]:
    """Do a run with two jumps and a rerun; return what went wrong."""
    clock.put(0)
    installation, began = Installation.make(folder, more=clock.environment), time.monotonic()
    with killed_at_end(installation.execute(config)) as run:
        seen: set[int] = set()
        for ahead in days:
            wait_for("A training", lambda: run.poll() is not None or any(new(seen, run.pid)), SECONDS_FOR_A_RUN, 0.05)
            for training in new(seen, run.pid):
                wait_for("The first step", partial(stepping_or_exited, training), every=0.01)
                seen.add(training.pid)
            clock.put(ahead * DAY)
        code = run.wait(SECONDS_FOR_A_RUN)
    took = time.monotonic() - began
    print(f"The run exits with code {code} after {took:.0f} s.", flush=True)
    if code or len(seen) != len(days):
        return [f"the run failed, or trained {len(seen)} times: {installation.failures()}"]
    wrong = check(installation.home, expected)
    wrong += implausible_durations(installation, took) + broken_lineages(installation)
    with killed_at_end(installation.execute(config)) as again:
        code = again.wait(SECONDS_FOR_A_RUN)
    lines = [line for line in installation.output(20_000).splitlines() if "Nothing new" in line]
    print(f"Rerun: {lines[-1].split(' - ')[-1] if lines else f'code {code}, something was made'}", flush=True)
    return wrong if lines and not code else [*wrong, "the rerun failed or made something again"]


def new(seen: set[int], run: int) -> list[Any]:
    return [each for each in trainings(run) if each.pid not in seen]


def implausible_durations(installation: Installation, took: float) -> list[str]:
    """Return the recorded durations that are negative, or longer than the run, which took so many seconds."""
    from dagster import DagsterEventType, DagsterInstance
    from mlflow import MlflowClient

    durations: dict[str, float] = {}
    with DagsterInstance.from_config(str(installation.dagster)) as instance:
        (run,) = instance.get_runs(limit=1)
        for event in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_SUCCESS):
            assert event.dagster_event is not None
            durations[f"Dagster's step {event.dagster_event.step_key}"] = (
                event.dagster_event.step_success_data.duration_ms / 1000
            )
    client = MlflowClient(f"sqlite:///{installation.home / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    for made in client.search_runs(experiments):
        if not (name := made.data.tags.get("adc.asset")):
            # The parent run of a job.
            continue
        durations[f"MLflow's run of {name}"] = ((made.info.end_time or 0) - made.info.start_time) / 1000
        if "seconds" in made.data.metrics:
            durations[f"seconds of {name}"] = made.data.metrics["seconds"]
    for asset in MODELS:
        durations[f"training.json of {asset}"] = json.loads(
            (Store(installation.home).current(asset).path / "training.json").read_text()
        )["seconds"]
    print(
        f"{len(durations)} durations, from {min(durations.values()):.1f} to {max(durations.values()):.1f} s.",
        flush=True,
    )
    return [f"{name} took {seconds:.1f} s" for name, seconds in durations.items() if not 0 <= seconds <= took]


def broken_lineages(installation: Installation) -> list[str]:
    """Return which models' lineages do not lead to the current raw corpus, or have gaps."""
    from mlflow import MlflowClient

    from adc_pipeline.tracking.lineage import Records

    client = MlflowClient(f"sqlite:///{installation.home / 'mlflow.db'}")
    wrong = []
    for name in MODELS.values():
        latest = max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
        tree = {node.asset: node for node in Records([client]).above_version(latest).walk()}
        corpus = Store(installation.home).current("raw_corpus").digest
        if "raw_corpus" not in tree or tree["raw_corpus"].digest != corpus:
            wrong.append(f"the lineage of {name} does not lead to the raw corpus {corpus}")
        wrong += [f"the lineage of {name}: {node.asset}: {node.note}" for node in tree.values() if node.note]
    return wrong


def schedule_with_jumps(clock: Clock, folder: Path, config: Path) -> list[str]:
    """Run a schedule by a daemon whose clock jumps; return what went wrong."""
    installation = Installation.make(folder, more=clock.environment)
    shutil.copy(config, installation.home / "run.yaml")
    (installation.home / "automation.yaml").write_text(yaml.safe_dump({"run_config": "run.yaml"}))
    clock.put(until(2, 0))
    start = installation.start(sys.executable, "-m", "dagster", "schedule", "start", "nightly", *MODULE[:2])
    if start.wait(SECONDS_FOR_A_RUN):
        return [f"the schedule could not be turned on: {installation.output()}"]
    wrong: list[str] = []
    base = until(3, 59)
    clock.put(base)
    with killed_at_end(installation.daemon()):
        steps = (
            ("at four", None, 1, 0),
            ("a day forward", 1, 2, 0),
            ("a day back", 0, 2, 60),
            ("forward again", 1, 2, 60),
        )
        for what, day, expected, watch in steps:
            if day is not None:
                clock.put(base + day * DAY)
            wait_for(f"{expected} runs {what}", partial(has_runs, installation, expected), 300, every=1)
            time.sleep(watch)
            found = len(statuses(installation))
            print(f"Clock {what}: {found} runs of the schedule so far.", flush=True)
            if found != expected:
                wrong.append(f"{found} runs {what}, not {expected}")
            # After the next jump, a run that is still starting would count as starting for a day.
            wait_for("The end of the runs", partial(have_ended, installation), SECONDS_FOR_A_RUN, every=1)
    ended = statuses(installation)
    print(f"They ended as {', '.join(ended)}; freshness: {freshness(installation)}.", flush=True)
    if set(ended) != {"SUCCESS"}:
        wrong.append(f"the runs of the schedule ended as {', '.join(ended)}")
    if {"FAIL", "WARN"} & set(freshness(installation)):
        wrong.append(f"assets that were just made count as overdue: {freshness(installation)}")
    return wrong


def until(hour: int, minute: int) -> int:
    """Return the seconds from now to this time of day tomorrow, UTC."""
    now = datetime.now(UTC)
    then = (now + timedelta(days=1)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return int((then - now).total_seconds())


def statuses(installation: Installation) -> list[str]:
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(installation.dagster)) as instance:
        return [run.status.value for run in instance.get_runs()]


def has_runs(installation: Installation, number: int) -> bool:
    return len(statuses(installation)) >= number


def have_ended(installation: Installation) -> bool:
    return all(status in ENDED for status in statuses(installation))


def freshness(installation: Installation) -> dict[str, int]:
    """Return the number of assets in each freshness state."""
    from dagster import AssetKey, DagsterInstance

    keys = [AssetKey(name) for name in ("raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk")]
    with DagsterInstance.from_config(str(installation.dagster)) as instance:
        records = instance.get_freshness_state_records(keys)
    return dict(Counter(records[key].freshness_state.value if key in records else "UNKNOWN" for key in keys))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.clock", description=__doc__)
    parser.add_argument("--part", choices=("run", "schedule"), help="only this part (default: both)")
    given = parser.parse_args()
    handle_signals()
    compiler = shutil.which("cc")
    if compiler is None:
        print("This drill needs a C compiler: apt-get install gcc.")
        return 2
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="adc-clock-") as name:
        work = Path(name)
        clock, config = Clock(work, compiler), write_config(work / "run.yaml", 100)
        if given.part != "schedule":
            undisturbed, began = Installation.make(work / "undisturbed"), time.monotonic()
            with killed_at_end(undisturbed.execute(config)) as run:
                if run.wait(SECONDS_FOR_A_RUN):
                    print(f"An undisturbed run failed: {undisturbed.output()}", file=sys.stderr)
                    return 1
            print(f"An undisturbed run takes {time.monotonic() - began:.0f} s.", flush=True)
            for number, (direction, days) in enumerate(JUMPS.items()):
                print(f"A day {direction}:", flush=True)
                wrong += run_with_jumps(clock, work / f"jumps-{number}", config, days, digests(undisturbed.home))
        if given.part != "run":
            wrong += schedule_with_jumps(clock, work / "nights", config)
    for each in wrong:
        print(f"WRONG: {each}")
    print("The drill has failed." if wrong else "The drill has passed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
