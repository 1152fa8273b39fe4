"""Drill: SIGKILL while databases are first created. `python -m adc_pipeline_tests.drills.first_starts --rounds 100`.

A round runs `adc run datasets` in an empty ADC_HOME with an empty cache, and kills it, with all processes below it,
shortly after Dagster's or MLflow's database has begun to appear. In every other round a second run starts at the same
time and is left alone. The job then runs once more and must succeed. All datasets must equal, byte for byte, those of
an undisturbed run, every database must be sound, and no temporary files may be left.

A round takes about half a minute of one core.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import yaml

from adc_pipeline.cli.repair import fault
from adc_pipeline_tests.drills.checks import MADE, damage, digests, left_behind
from adc_pipeline_tests.drills.jobs import (
    ROOT,
    SECONDS_FOR_A_RUN,
    handle_signals,
    kill,
    killed_at_end,
    process_tree,
    wait_for,
)

DATASETS = MADE[: MADE.index("base_model")]
# What begins to appear, and the longest time after it, in seconds, at which the kill comes.
MOMENTS: dict[str, tuple[str, ...]] = {
    "Dagster": ("dagster/.new-*", "dagster/history", "dagster/schedules"),
    "MLflow": (".mlflow.db-new-*", "mlflow.db"),
}
SECONDS_AFTER = 3.0
NO_REVISION = "its tables have 0 revisions instead of one"


def run(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    """Start `adc run datasets` with an ADC_HOME, a cache and temporary files in `folder`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ADC_", "MLFLOW_", "DAGSTER_"))}
    (folder / "t").mkdir(parents=True, exist_ok=True)
    places = {"ADC_HOME": folder / "home", "XDG_CACHE_HOME": folder / "cache", "TMPDIR": folder / "t"}
    command = [sys.executable, "-m", "adc_pipeline", "run", "datasets", "-c", str(config)]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**kept, **{name: str(path) for name, path in places.items()}, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )


def appeared(home: Path, patterns: tuple[str, ...]) -> Callable[[], bool]:
    return lambda: any(next(home.glob(pattern), None) is not None for pattern in patterns)


def broken_databases(home: Path) -> list[str]:
    """Return the databases in place that are damaged; those that a killed process left beside them may be.

    A killed run's own database of events may lack its revision: Dagster completes it when it opens the run.
    """
    files = [home / "mlflow.db", *sorted((home / "dagster").glob("[!.]*/**/*.db"))]
    found = {file: fault(file, "") for file in files if file.exists()}
    runs = home / "dagster" / "history" / "runs"
    return [
        f"{file.relative_to(home)}: {reason}"
        for file, reason in found.items()
        if reason and not (reason == NO_REVISION and file.parent == runs and file.stem != "index")
    ]


def play(folder: Path, config: Path, owner: str, second: bool, rng: random.Random, expected: dict[str, str]) -> str:
    """Do a round; return what happened, and raise RuntimeError for what went wrong."""
    home, delay = folder / "home", rng.uniform(0, SECONDS_AFTER)
    with ExitStack() as ending:
        first = ending.enter_context(killed_at_end(run(folder, config)))
        other = ending.enter_context(killed_at_end(run(folder, config))) if second else None
        ready = appeared(home, MOMENTS[owner])
        wait_for(f"A database of {owner}", lambda: ready() or first.poll() is not None, every=0.005)
        time.sleep(delay)
        ended = first.poll() is not None
        kill(process_tree(first.pid))
        first.wait()
        if broken := broken_databases(home):
            raise RuntimeError(f"after the kill: {'; '.join(broken)}")
        if other is not None and other.wait(SECONDS_FOR_A_RUN):
            raise RuntimeError(f"the run beside it failed: {(folder / 'run.log').read_text()[-2000:]}")
        with killed_at_end(run(folder, config)) as again:
            if again.wait(SECONDS_FOR_A_RUN):
                raise RuntimeError(f"the next run failed: {(folder / 'run.log').read_text()[-2000:]}")
    found = digests(home, DATASETS)
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in DATASETS if expected and found != expected]
    wrong += broken_databases(home) + damage(home) + left_behind(home)
    if wrong:
        raise RuntimeError("; ".join(wrong))
    beside = ", another beside it" if second else ""
    return f"{'ended before' if ended else 'killed'} {delay:.1f} s after {owner}'s database{beside}; byte-identical"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.first_starts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given = parser.parse_args()
    handle_signals()
    passed, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adc-first-") as name:
        work = Path(name)
        config = work / "run.yaml"
        corpus = {"raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 60}}}
        config.write_text(yaml.safe_dump({"ops": corpus}))
        with killed_at_end(run(work / "undisturbed", config)) as undisturbed:
            if undisturbed.wait(SECONDS_FOR_A_RUN):
                print((work / "undisturbed" / "run.log").read_text(), file=sys.stderr)
                return 1
        expected = digests(work / "undisturbed" / "home", DATASETS)
        for number in range(given.rounds):
            rng = random.Random(f"{given.seed} {number}")
            owner = list(MOMENTS)[number // 2 % 2]
            try:
                outcome = play(work / str(number), config, owner, number % 2 == 1, rng, expected)
                passed += 1
            except RuntimeError as error:
                outcome = f"FAILED: {error}"
            print(f"Round {number + 1}: {outcome}", flush=True)
    print(f"{passed} of {given.rounds} rounds passed in {time.monotonic() - began:.0f} s.")
    return 0 if passed == given.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
