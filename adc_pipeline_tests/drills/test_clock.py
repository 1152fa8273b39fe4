"""The duration of an MLflow run is right although the clock jumps by a day meanwhile. 8 s, mostly MLflow's tables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adc_pipeline_tests.drills.clock import DAY, Clock

pytestmark = pytest.mark.slow

# Makes MLflow runs during which the clock jumps; prints their statuses and their durations in MLflow.
JUMP = """
import sys
from pathlib import Path
from adc_pipeline.tracking.runs import Tracking
home, clock, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tracking = Tracking.from_environment(home)
tracking.check()
def put(seconds):
    with clock.open("r+b") as file:
        file.write(seconds.to_bytes(8, "little", signed=True))
for fails in (False, True):
    put(0)
    try:
        with tracking.run("utterances", {}, {}) as run:
            put(seconds)
            if fails:
                raise KeyError
    except KeyError:
        pass
    info = tracking.client().get_run(run.id).info
    print(info.status, (info.end_time - info.start_time) / 1000)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("days", [1, -1])
def test_a_jump_of_the_clock_does_not_change_the_duration_of_an_mlflow_run(tmp_path: Path, days: int) -> None:
    clock = Clock(tmp_path, "cc")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    output = subprocess.run(
        [sys.executable, "-c", JUMP, str(tmp_path), str(clock.file), str(days * DAY)],
        env=environment | clock.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert output[::2] == ["FINISHED", "FAILED"]
    assert all(0 <= float(seconds) < 3600 for seconds in output[1::2])
