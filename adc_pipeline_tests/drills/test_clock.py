"""A run in MLflow while the clock jumps, which by the time of day would last a day: 8 s, most of it MLflow's tables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adc_pipeline_tests.drills.clock import DAY, Clock

pytestmark = pytest.mark.slow

# A run of MLflow in whose middle the clock is put a day back or forward; prints how long MLflow says that it was.
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


@pytest.mark.skipif(shutil.which("cc") is None, reason="the clock is compiled")
@pytest.mark.parametrize("days", [1, -1])
def test_a_run_in_mlflow_lasts_as_long_as_it_did_when_the_clock_jumps(tmp_path: Path, days: int) -> None:
    clock = Clock(tmp_path, "cc")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    told = subprocess.run(
        [sys.executable, "-c", JUMP, str(tmp_path), str(clock.file), str(days * DAY)],
        env=environment | clock.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told[::2] == ["FINISHED", "FAILED"]
    assert all(0 <= float(seconds) < 3600 for seconds in told[1::2])
