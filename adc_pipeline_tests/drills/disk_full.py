"""Drill: the disk of ADC_HOME fills while an asset is made. `python -m adc_pipeline_tests.drills.disk_full`.

ADC_HOME is a small file system in memory (tmpfs), mounted in a mount namespace of the drill's own, so that no other
process is affected. It starts with a complete set of artefacts of another corpus. Then, for each asset in the order in
which they are made, a run starts, and when the temporary folder of the asset appears, a file fills the disk except for
a few KiB. The run must fail, and each failed step must give one sentence that names ADC_HOME and what to do. The
earlier artefacts must stay current and complete, and the next run, without the file, must get past this asset. After a
last, undisturbed run every artefact must equal, byte for byte, that of a run in another ADC_HOME.

The drill runs twice: with MLflow's database in ADC_HOME, the default, so that MLflow cannot write either; and with an
MLflow server whose files are elsewhere.
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
from adc_pipeline_tests.drills.jobs import SECONDS_FOR_A_RUN, Installation, handle_signals, killed_at_end, write_config
from adc_pipeline_tests.drills.servers import mlflow_server

# In the order in which a run makes them, so that the run that fails at one asset has not made a later one. One model
# and one evaluation stand for all of them.
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
# Twice the free space that a run requires before it starts an asset.
ROOM = "600m"


def fill_disk(home: Path, asset: str, run: subprocess.Popen[bytes]) -> Path | None:
    """Wait until an asset is being made and fill the disk; return the file, or None if the run ended before."""
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
                # The run has written meanwhile.
                if error.errno != errno.ENOSPC:
                    raise


def fault(installation: Installation, config: Path, asset: str) -> tuple[str, list[str]]:
    """Do a run whose disk fills while an asset is made; return a summary, and what went wrong."""
    before = digests(installation.home)
    with killed_at_end(installation.execute(config)) as run:
        ballast = fill_disk(installation.home, asset, run)
        code = run.wait(SECONDS_FOR_A_RUN)
    if ballast is None:
        return "", [f"{asset} was never started: {installation.output()}"]
    after, failures = digests(installation.home), installation.failures()
    ballast.unlink()
    wrong = damage(installation.home)
    if code == 0 or asset not in failures:
        wrong.append(f"{asset} did not fail (exit code {code}, failed: {sorted(failures)})")
    for step, lines in failures.items():
        if len(lines) != 1 or "ADC_HOME" not in lines[0] or "make room" not in lines[0] or lines[0].count(": ") > 1:
            wrong.append(f"{step} did not state in one sentence what to do: {' / '.join(lines)[:1500]}")
    missing = [name for name in after if after[name] == "missing" != before[name]]
    wrong += [f"{name} is missing" for name in missing]
    if after[asset] != before[asset]:
        wrong.append(f"{asset} has changed, although it failed")
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"{asset}{others} failed: {failures.get(asset, ['-'])[0]}", wrong


def drill(work: Path, tracked: str, old: Path, new: Path, expected: dict[str, str]) -> list[str]:
    """Fill the disk at each stage in turn, with MLflow's store in "home" or on a "server"; return what went wrong."""
    wrong: list[str] = []
    with ExitStack() as ending:
        server = ending.enter_context(mlflow_server(work / "mlflow")) if tracked == "server" else None
        installation = Installation.make(work / tracked, server.address if server else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", installation.home], check=True)
        # Lazily, since this process has MLflow's database open.
        ending.callback(lambda: subprocess.run(["umount", "--lazy", installation.home], check=True))
        if run_to_end(installation, old):
            return [f"the first run failed: {installation.output()}"]
        for asset in STAGES:
            began = time.monotonic()
            summary, found = fault(installation, new, asset)
            print(f"MLflow in {tracked}: {summary} ({time.monotonic() - began:.0f} s)", flush=True)
            for each in found:
                print(f"  WRONG: {each}", flush=True)
            wrong += found
        if run_to_end(installation, new):
            return [*wrong, f"the rerun failed: {installation.output()}"]
        found = check(installation.home, expected, installation.tracking)
        print(f"MLflow in {tracked}: the rerun is {'; '.join(found) or 'byte-identical'}", flush=True)
        return wrong + found


def run_to_end(installation: Installation, config: Path) -> int:
    with killed_at_end(installation.execute(config)) as run:
        return run.wait(SECONDS_FOR_A_RUN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.disk_full", description=__doc__)
    parser.add_argument("--tracking", choices=("home", "server"), help="location of MLflow's store (default: both)")
    parser.add_argument("--namespace", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    handle_signals()
    if not given.namespace:
        # Only this process and its children see the mount; with -r it needs no root.
        return subprocess.run(
            ["unshare", "-rm", sys.executable, "-m", __spec__.name, *sys.argv[1:], "--namespace"]
        ).returncode
    changed: dict[str, dict[str, Any]] = {"base_model": {"seed": 1}}
    with tempfile.TemporaryDirectory(prefix="adc-disk-") as name:
        work = Path(name)
        old = write_config(work / "old.yaml", 80, **changed)
        new = write_config(work / "new.yaml", 100)
        elsewhere = Installation.make(work / "elsewhere")
        if run_to_end(elsewhere, new):
            print(f"An undisturbed run failed: {elsewhere.output()}", file=sys.stderr)
            return 1
        expected = digests(elsewhere.home)
        wrong = []
        for tracked in [given.tracking] if given.tracking else ["home", "server"]:
            wrong += drill(work, tracked, old, new, expected)
    print(f"The drill has failed in {len(wrong)} points." if wrong else f"The drill has passed: {len(MADE)} artefacts.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
