"""SIGKILL a whole run at random moments, then rerun it: `python -m adc_pipeline_tests.drills.kills --rounds 50`.

Each round starts `dagster job execute -j datasets` in an ADC_HOME with an MLflow database and nothing else, kills the
process after a random part of the time that a whole run takes, does so once more, runs it to its end, and compares the
digests of every artefact, computed from the files on disk, with those of a run that nobody touched.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from adc_pipeline.artefacts import Store, folder_digest

DATASETS = ("raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk")
# So that a run that never ends is a failure of the drill and not its end.
SECONDS_FOR_A_RUN = 900


def start(home: Path, config: Path) -> subprocess.Popen[bytes]:
    """The job as a process of its own, with Dagster's history thrown away and its words in `run.log`."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "adc_pipeline.definitions", "-j", "datasets"]
    with (home / "run.log").open("ab") as log:
        # An empty DAGSTER_HOME, so that the drill leaves no runs in anybody's history.
        (home / "dagster").mkdir(exist_ok=True)
        environment = {**os.environ, "ADC_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        environment.pop("MLFLOW_TRACKING_URI", None)
        return subprocess.Popen([*command, "-c", str(config)], env=environment, stdout=log, stderr=log)


def killed(home: Path, config: Path, seconds: float) -> bool:
    """Start the job and kill it after so long; whether it still ran."""
    run = start(home, config)
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
        run.wait()
        return True
    return False


def digests(home: Path) -> dict[str, str]:
    """Of every artefact in place, from its files; the raw corpus' from what it recorded."""
    store = Store(home)
    made = {name: store.current(name) for name in DATASETS}
    return {name: each.digest if name == "raw_corpus" else folder_digest(each.path) for name, each in made.items()}


def check(home: Path, expected: dict[str, str]) -> list[str]:
    """What is wrong after a rerun; nothing, if the drill has passed."""
    found = digests(home)
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in DATASETS if found[name] != expected[name]]
    wrong += [
        f"{name} lies under another name" for name in DATASETS if Store(home).place(name).resolve().name != found[name]
    ]
    wrong += [f"{left} was left behind" for left in home.glob("store/*/.making-*")]
    wrong += [f"{left} was left behind" for left in (home / "work").rglob("*") if left.is_file()]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="adc-kills-") as folder:
        work = Path(folder)
        config = work / "run.yaml"
        settings = {"corpus": "sample", "sample_conversations": given.conversations}
        config.write_text(yaml.safe_dump({"ops": {"raw_corpus": {"config": settings}}}))
        untouched = work / "untouched"
        untouched.mkdir()
        began = time.monotonic()
        if start(untouched, config).wait(SECONDS_FOR_A_RUN):
            print((untouched / "run.log").read_text(), file=sys.stderr)
            return 1
        whole = time.monotonic() - began
        expected = digests(untouched)
        print(f"A run takes {whole:.0f} s; the digests are {expected}.", flush=True)
        failed = 0
        for number in range(given.rounds):
            home = work / f"round-{number}"
            home.mkdir()
            for name in ("mlflow.db", "mlflow-artifacts"):
                source = untouched / name
                if source.is_dir():
                    shutil.copytree(source, home / name)
                elif source.exists():
                    shutil.copy(source, home / name)
            kills = [
                seconds
                for seconds in (moments.uniform(0, whole), moments.uniform(0, whole))
                if killed(home, config, seconds)
            ]
            well = start(home, config).wait(SECONDS_FOR_A_RUN) == 0
            wrong = check(home, expected) if well else ["the rerun failed: " + (home / "run.log").read_text()[-2000:]]
            failed += bool(wrong)
            at = ", ".join(f"{seconds:.1f} s" for seconds in kills) or "never"
            print(f"Round {number + 1}: killed {at}; {'; '.join(wrong) or 'byte-identical'}", flush=True)
            shutil.rmtree(home)
    print(f"{given.rounds - failed} of {given.rounds} rounds passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
