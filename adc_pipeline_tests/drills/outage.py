"""`python -m adc_pipeline_tests.drills.outage`: MLflow's server away for a minute while a model trains, or all along.

First: what leads to one model, with a training of some minutes, and an `mlflow server` of its own. Once the training
has written figures, the server and its workers are killed, and started again `--seconds` later. The training must
have taken steps all the while, the run must end well, and MLflow must then have every figure that the training wrote,
with the value that it wrote, at its step, once.

Then: a run whose `MLFLOW_TRACKING_URI` names a server that is not there must end at once with one sentence that names
the variable, before it has made anything.
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

from adc_pipeline.core.artefacts import MAKING, Store
from adc_pipeline_tests.drills.checks import damage
from adc_pipeline_tests.drills.jobs import (
    SECONDS_FOR_A_RUN,
    Ground,
    end_as_a_whole,
    free_port,
    removed_at_end,
    wait_for,
    write_config,
)
from adc_pipeline_tests.drills.servers import MlflowServer, mlflow_server

ASSET = "top_2_model"


def figures(ground: Ground) -> list[dict[str, float]]:
    """The lines that the training has written so far."""
    file = ground.home / "work" / ASSET / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_step(ground: Ground) -> int:
    written = figures(ground)
    return int(written[-1]["step"]) if written else 0


def lost(ground: Ground) -> tuple[int, list[str]]:
    """How many figures the training wrote, and which of them MLflow does not have, or has otherwise or twice."""
    from mlflow import MlflowClient

    client = MlflowClient(ground.tracking)
    run = json.loads((Store(ground.home).current(ASSET).path / MAKING).read_text())["run"]
    wrong, written = [], figures(ground)
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


def in_the_middle(work: Path, seconds: float, steps: int) -> list[str]:
    """The server killed while the training runs; what went wrong."""
    changed: dict[str, dict[str, Any]] = {
        ASSET: {"max_steps": steps, "log_every": 50, "checkpoint_every": 1000, "validate_every": 0}
    }
    config = write_config(work / "run.yaml", 100, ("raw_corpus", "base_model", ASSET), **changed)
    with mlflow_server(work / "mlflow") as server:
        ground = Ground.make(work / "middle", server.address)
        with removed_at_end(ground.execute(config, "--op-selection", f"*{ASSET}")) as run:
            wait_for("Figures of the training", lambda: len(figures(ground)) > 2 or run.poll() is not None, 600)
            before = last_step(ground)
            server.kill()
            print(f"The server is killed when the training is at step {before} of {steps}.", flush=True)
            pace = steps_while_away(ground, server, seconds)
            server.start()
            back, began = last_step(ground), time.monotonic()
            print(
                f"It answers again after {pace[-1][0]:.0f} s; the training is at step {back} ("
                + ", ".join(f"{step} after {after:.0f} s" for after, step in pace)
                + ").",
                flush=True,
            )
            ended = run.wait(SECONDS_FOR_A_RUN) == 0
        if not ended:
            return [f"the run failed: {ground.failures()}"]
        if back >= steps:
            return [f"the training was over before the server was back: raise --steps above {steps}"]
        moved = [later[1] - earlier[1] for earlier, later in pairwise(pace)]
        wrong = [] if all(step > 0 for step in moved) else [f"the training stood still: {moved} steps"]
        count, missing = lost(ground)
        print(
            f"The run ends well {time.monotonic() - began:.0f} s later, at step {last_step(ground)}; MLflow has"
            f" {count - len(missing)} of {count} figures of the training as they were written.",
            flush=True,
        )
        return wrong + missing + damage(ground.home)


def steps_while_away(ground: Ground, server: MlflowServer, seconds: float) -> list[tuple[float, int]]:
    """The training's step every quarter of the time for which the server is away."""
    began, pace = time.monotonic(), [(0.0, last_step(ground))]
    for part in range(1, 5):
        time.sleep(max(0.0, began + seconds * part / 4 - time.monotonic()))
        if server.answers():
            raise RuntimeError("The server answers although it was killed.")
        pace.append((time.monotonic() - began, last_step(ground)))
    return pace


def at_the_start(work: Path) -> list[str]:
    """A run without its server; what went wrong."""
    ground = Ground.make(work / "start", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with removed_at_end(ground.execute(write_config(work / "run.yaml", 100))) as run:
        code = run.wait(SECONDS_FOR_A_RUN)
    took = time.monotonic() - began
    failures = ground.failures()
    print(
        f"Without a server the run ends with code {code} after {took:.0f} s, imports included: {failures}", flush=True
    )
    wrong = [] if code else ["a run without its server did not fail"]
    if [len(said) for said in failures.values()] != [1]:
        wrong.append(f"not one step failed with one sentence: {failures}")
    if not all("MLFLOW_TRACKING_URI" in said[0] for said in failures.values()):
        wrong.append("the sentence does not name MLFLOW_TRACKING_URI")
    made = [path for path in (ground.home / "store").rglob("*") if not path.is_dir()]
    return wrong + [f"{path.relative_to(ground.home)} was made" for path in made]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.drills.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for which the server is away")
    parser.add_argument("--steps", type=int, default=6000, help="of the training, which must take longer than that")
    given = parser.parse_args()
    end_as_a_whole()
    with tempfile.TemporaryDirectory(prefix="adc-outage-") as name:
        wrong = in_the_middle(Path(name), given.seconds, given.steps) + at_the_start(Path(name))
    for each in wrong:
        print(f"WRONG: {each}")
    print("The drill has failed." if wrong else "The drill has passed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
