"""Two runs on one ADC_HOME: the second waits a while and says so, then is refused; a killed one claims nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adc_pipeline.core.claims import Claims
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.processes import has_ended, this_process

HOLDER = """
import sys
from pathlib import Path
from adc_pipeline.core.claims import Claims
with Claims(Path(sys.argv[1]), "datasets, run 1") as claims:
    claims.take("top_2", 0, print)
    claims.take("study_cell/a", 0, print)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has claimed `top_2` and ends when it is told to."""
    made = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "held\n"
    return made


def test_what_another_run_makes_is_refused_after_the_wait(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    said: list[str] = []
    with Claims(tmp_path, "ours") as claims:
        with pytest.raises(PipelineError, match=r"Another run \(datasets, run 1\) makes top_2 in ADC_HOME"):
            claims.take("top_2", 0.3, said.append)
        claims.take("random_walk", 0, said.append)
        claims.take("random_walk", 0, said.append)
    assert said == ["Another run (datasets, run 1) makes top_2: waiting for its end, 0 s at most."]
    holder.communicate()


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_claim_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path, end: str) -> None:
    if end == "killed":
        os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with Claims(tmp_path, "ours") as claims:
        claims.take("top_2", 0, pytest.fail)
        claims.take("study_cell/a", 0, pytest.fail)
    with Claims(tmp_path, "the next") as claims:
        claims.take("top_2", 0, pytest.fail)


def test_one_waits_for_the_other_and_then_goes_on(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with Claims(tmp_path, "ours") as claims:
        # The other ends as soon as we say that we wait.
        claims.take("top_2", 60, lambda _: holder.stdin.close() if holder.stdin else None)
    holder.wait()


def test_a_process_is_known_to_have_ended_only_when_it_has() -> None:
    assert not has_ended(this_process())
    host, boot, number, start = this_process().split(" ")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    of_other = f"{host} {boot} {other.pid} "
    assert has_ended(of_other + "1"), "another process by the same number"
    assert has_ended(f"{host} an-earlier-boot {number} {start}")
    assert not has_ended(f"elsewhere {boot} {other.pid} 1"), "of another machine nothing is known"
    assert not has_ended("")
    assert not has_ended(f"{host} ? {number} 1"), "nor where there is no /proc"
    other.communicate()
    assert has_ended(of_other + start)
