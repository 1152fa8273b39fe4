"""Drill: MLflow's server is down during a training, or all the time. `python -m adc_pipeline_tests.drills.outage`.

First, one model and its upstream assets are made, with a training of some minutes and an `mlflow server`. Once the
training has logged metrics, the server and its workers are killed, and restarted `--seconds` later. The training must
take steps during the outage, the run must succeed, and MLflow must then have every metric that the training logged,
exactly once, with its value and step.

Then a run whose `MLFLOW_TRACKING_URI` names a server that does not exist must end at once, before it has made anything,
with one sentence that names the variable.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import MAKING
from adc_pipeline_tests.drills.checks import damage
from adc_pipeline_tests.drills.jobs import (
    SECONDS_FOR_A_RUN,
    Installation,
    free_port,
    handle_signals,
    killed_at_end,
    wait_for,
    write_config,
)
from adc_pipeline_tests.drills.servers import MlflowServer, mlflow_server

ASSET = "top_2_model"


def figures(installation: Installation) -> list[dict[str, float]]:
    """Return the lines of metrics that the training has written so far."""
    file = installation.home / "work" / ASSET / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_step(installation: Installation) -> int:
    written = figures(installation)
    return int(written[-1]["step"]) if written else 0


def wrong_metrics(installation: Installation) -> tuple[int, list[str]]:
    """Return the number of metrics that the training wrote, and those that MLflow lacks, has twice or differently."""
    from mlflow import MlflowClient

    client = MlflowClient(installation.tracking)
    run = json.loads((Store(installation.home).current(ASSET).path / MAKING).read_text())["run"]
    wrong, written = [], figures(installation)
    for name in sorted({name for line in written for name in line} - {"step"}):
        there: dict[int, list[float]] = {}
        for metric in client.get_metric_history(run, name):
            there.setdefault(metric.step, []).append(metric.value)
        for line in written:
            if name in line:
                known = there.get(int(line["step"]), [])
                if len(known) != 1 or not math.isclose(known[0], line[name], rel_tol=1e-12):
                    wrong.append(f"{name} of step {line['step']:.0f} is {known} in MLflow, not {line[name]}")
    return sum(len(line) - 1 for line in written), wrong


def server_killed(work: Path, seconds: float, steps: int) -> list[str]:
    """Kill the server during the training and restart it; return what went wrong."""
    changed: dict[str, dict[str, Any]] = {
        ASSET: {"max_steps": steps, "log_every": 50, "checkpoint_every": 1000, "validate_every": 0}
    }
    config = write_config(work / "run.yaml", 100, ("raw_corpus", "base_model", ASSET), **changed)
    with mlflow_server(work / "mlflow") as server:
        installation = Installation.make(work / "middle", server.address)
        with killed_at_end(installation.execute(config, "--op-selection", f"*{ASSET}")) as run:
            wait_for("Metrics of the training", lambda: len(figures(installation)) > 2 or run.poll() is not None, 600)
            before = last_step(installation)
            server.kill()
            print(f"The server is killed at step {before} of {steps}.", flush=True)
            pace = steps_during_outage(installation, server, seconds)
            server.start()
            back, began = last_step(installation), time.monotonic()
            print(
                f"It is available again after {pace[-1][0]:.0f} s; the training is at step {back} ("
                + ", ".join(f"{step} after {after:.0f} s" for after, step in pace)
                + ").",
                flush=True,
            )
            ended = run.wait(SECONDS_FOR_A_RUN) == 0
        if not ended:
            return [f"the run failed: {installation.failures()}"]
        if back >= steps:
            return [f"the training ended before the server was available again: increase --steps above {steps}"]
        moved = [later[1] - earlier[1] for earlier, later in pairwise(pace)]
        wrong = [] if all(step > 0 for step in moved) else [f"the training stopped: {moved} steps per quarter"]
        count, missing = wrong_metrics(installation)
        print(
            f"The run succeeds {time.monotonic() - began:.0f} s later, at step {last_step(installation)}; MLflow has"
            f" {count - len(missing)} of the training's {count} metrics.",
            flush=True,
        )
        return wrong + missing + damage(installation.home)


def steps_during_outage(installation: Installation, server: MlflowServer, seconds: float) -> list[tuple[float, int]]:
    """Return time and training step at every quarter of the outage."""
    began, pace = time.monotonic(), [(0.0, last_step(installation))]
    for part in range(1, 5):
        time.sleep(max(0.0, began + seconds * part / 4 - time.monotonic()))
        if server.answers():
            raise RuntimeError("The server responds although it was killed.")
        pace.append((time.monotonic() - began, last_step(installation)))
    return pace


def server_missing(work: Path) -> list[str]:
    """Do a run without a server; return what went wrong."""
    installation = Installation.make(work / "start", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with killed_at_end(installation.execute(write_config(work / "run.yaml", 100))) as run:
        code = run.wait(SECONDS_FOR_A_RUN)
    took = time.monotonic() - began
    failures = installation.failures()
    print(
        f"Without a server the run exits with code {code} after {took:.0f} s, imports included: {failures}", flush=True
    )
    wrong = [] if code else ["the run without a server did not fail"]
    if [len(lines) for lines in failures.values()] != [1]:
        wrong.append(f"the failure is not one step with one sentence: {failures}")
    if not all("MLFLOW_TRACKING_URI" in lines[0] for lines in failures.values()):
        wrong.append("the sentence does not name MLFLOW_TRACKING_URI")
    made = [path for path in (installation.home / "store").rglob("*") if not path.is_dir()]
    return wrong + [f"{path.relative_to(installation.home)} was made" for path in made]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="duration of the outage")
    parser.add_argument("--steps", type=int, default=6000, help="steps of the training, which must outlast the outage")
    given = parser.parse_args()
    handle_signals()
    with tempfile.TemporaryDirectory(prefix="adc-outage-") as name:
        wrong = server_killed(Path(name), given.seconds, given.steps) + server_missing(Path(name))
    for each in wrong:
        print(f"WRONG: {each}")
    print("The drill has failed." if wrong else "The drill has passed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
