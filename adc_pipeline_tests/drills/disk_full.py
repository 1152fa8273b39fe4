"""The disk of ADC_HOME fills while each asset is made, in turn: `python -m adc_pipeline_tests.drills.disk_full`.

ADC_HOME is a small file system in memory (tmpfs), mounted in a mount namespace of the drill's own, so that nothing
else can see it or fill up with it. It holds a whole set of artefacts of another corpus. Then, asset by asset, in the
order in which they are made: a run begins, and the moment the folder in which the asset is made appears, a file takes
all that is left but a few KiB. The run must fail, each failed step with one sentence that names ADC_HOME and what to
do; what was in place must still be, whole; and the next run, with the file gone, goes on to the next asset. The last
run is left alone, and every artefact must then be that of a run elsewhere that nobody disturbed, byte for byte.

Twice: with MLflow's database in ADC_HOME, as it is by default, so that it cannot write either; and with a server of it
whose files are elsewhere.
"""

import argparse
import errno
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from adc_pipeline_tests.drills.checks import MADE, check, damage, digests
from adc_pipeline_tests.drills.jobs import SECONDS_FOR_A_RUN, Ground, end_as_a_whole, removed_at_end, write_config
from adc_pipeline_tests.drills.servers import mlflow_server

# In the order in which a run comes to them: a later one must not have been made by the run that fails at an earlier.
# The second model and its evaluation go the way of the first.
STAGES = (
    "raw_corpus",
    "utterances",
    "ranked_replies",
    "random_walk",
    "top_2",
    "base_model",
    "top_2_model",
    "top_2_evaluation",
    "comparison",
)
LEFT = 4 << 10
# Twice the room that a run asks for before it begins an asset.
ROOM = "600m"


def filled(home: Path, asset: str, run: subprocess.Popen[bytes]) -> Path | None:
    """Wait until an asset is being made, and fill the disk; the ballast, or None where the run ended before."""
    shelf, ballast = home / "store" / asset, home / "ballast"
    before = set(shelf.glob(".making-*"))
    while not set(shelf.glob(".making-*")) - before:
        if run.poll() is not None:
            return None
        time.sleep(0.002)
    with ballast.open("wb") as file:
        while True:
            free = os.statvfs(home)
            try:
                os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - LEFT, 1))
                return ballast
            except OSError as error:
                # The run has written something in between.
                if error.errno != errno.ENOSPC:
                    raise


def fault(ground: Ground, config: Path, asset: str) -> tuple[str, list[str]]:
    """One run whose disk fills; what was said, and what went wrong."""
    before = digests(ground.home)
    with removed_at_end(ground.execute(config)) as run:
        ballast = filled(ground.home, asset, run)
        code = run.wait(SECONDS_FOR_A_RUN)
    if ballast is None:
        return "", [f"{asset} was never begun: {ground.said()}"]
    after, failures = digests(ground.home), ground.failures()
    ballast.unlink()
    wrong = damage(ground.home)
    if code == 0 or asset not in failures:
        wrong.append(f"{asset} did not fail (exit code {code}, failed: {sorted(failures)})")
    for step, said in failures.items():
        if len(said) != 1 or "ADC_HOME" not in said[0] or "make room" not in said[0] or said[0].count(": ") > 1:
            wrong.append(f"{step} did not say in one sentence what to do: {' / '.join(said)[:1500]}")
    gone = [name for name in after if after[name] == "missing" != before[name]]
    wrong += [f"{name} is no longer in place" for name in gone]
    if after[asset] != before[asset]:
        wrong.append(f"{asset} is another one, although it failed")
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"{asset}{others} failed: {failures.get(asset, ['-'])[0]}", wrong


def drill(work: Path, tracked: str, old: Path, new: Path, expected: dict[str, str]) -> list[str]:
    """All stages in turn with MLflow in one of two places; what went wrong."""
    wrong: list[str] = []
    with ExitStack() as ending:
        server = ending.enter_context(mlflow_server(work / "mlflow")) if tracked == "server" else None
        ground = Ground.make(work / tracked, server.address if server else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", ground.home], check=True)
        # Lazily: this process has MLflow's database open.
        ending.callback(lambda: subprocess.run(["umount", "--lazy", ground.home], check=True))
        if run_to_end(ground, old):
            return [f"the first run failed: {ground.said()}"]
        for asset in STAGES:
            began = time.monotonic()
            said, found = fault(ground, new, asset)
            print(f"MLflow in {tracked}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
            for each in found:
                print(f"  WRONG: {each}", flush=True)
            wrong += found
        if run_to_end(ground, new):
            return [*wrong, f"the rerun failed: {ground.said()}"]
        found = check(ground.home, expected, ground.tracking)
        print(f"MLflow in {tracked}: the rerun is {'; '.join(found) or 'byte-identical'}", flush=True)
        return wrong + found


def run_to_end(ground: Ground, config: Path) -> int:
    with removed_at_end(ground.execute(config)) as run:
        return run.wait(SECONDS_FOR_A_RUN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.disk_full", description=__doc__)
    parser.add_argument("--tracking", choices=("home", "server"), help="where MLflow's store is; both if not given")
    parser.add_argument("--namespace", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    end_as_a_whole()
    if not given.namespace:
        # A mount that is seen by this process and those below it alone; -r makes do without being root.
        return subprocess.run(
            ["unshare", "-rm", sys.executable, "-m", __spec__.name, *sys.argv[1:], "--namespace"]
        ).returncode
    changed: dict[str, dict[str, Any]] = {"base_model": {"seed": 1}}
    with tempfile.TemporaryDirectory(prefix="adc-disk-") as name:
        work = Path(name)
        old = write_config(work / "old.yaml", 80, **changed)
        new = write_config(work / "new.yaml", 100)
        elsewhere = Ground.make(work / "elsewhere")
        if run_to_end(elsewhere, new):
            print(f"An undisturbed run failed: {elsewhere.said()}", file=sys.stderr)
            return 1
        expected = digests(elsewhere.home)
        wrong = []
        for tracked in [given.tracking] if given.tracking else ["home", "server"]:
            wrong += drill(work, tracked, old, new, expected)
    print(f"The drill has failed in {len(wrong)} points." if wrong else f"The drill has passed: {len(MADE)} artefacts.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
