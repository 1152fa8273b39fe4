"""Two runs in one ADC_HOME: the second reports that it waits, then is refused; a killed run holds no lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.processes import has_ended, this_process
from adc_pipeline.core.store import claims
from adc_pipeline.core.store.claims import Claims

HOLDER = """
import sys
from pathlib import Path
from adc_pipeline.core.store.claims import Claims
with Claims(Path(sys.argv[1]), "datasets, run 1") as claims:
    claims.take("top_2", 0, print)
    claims.take("study_cell/a", 0, print)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Start a process that locks `top_2` and ends when its standard input is closed."""
    made = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "held\n"
    return made


def test_an_asset_of_another_run_is_refused_after_the_wait(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    reports: list[str] = []
    with Claims(tmp_path, "ours") as ours:
        with pytest.raises(PipelineError, match=r"Another run \(datasets, run 1\) is making top_2 in ADC_HOME"):
            ours.take("top_2", 0.3, reports.append)
        ours.take("random_walk", 0, reports.append)
        ours.take("random_walk", 0, reports.append)
    assert reports == ["Another run (datasets, run 1) is making top_2: waiting at most 0 s for it."]
    holder.communicate()


def test_the_reports_of_a_long_wait_become_rare(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 1))
    at: list[float] = []
    with Claims(tmp_path, "ours") as ours, pytest.raises(PipelineError):
        ours.take("top_2", 86_400, lambda _: at.append(clock[0]))
    assert at[:5] == [0, 5, 15, 35, 75]
    assert len(at) < 160
    holder.communicate()


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_run_that_waits_goes_on_and_says_so(holder: subprocess.Popen[str], tmp_path: Path, end: str) -> None:
    reports: list[str] = []

    def report(message: str) -> None:
        reports.append(message)
        if end == "killed":
            os.kill(holder.pid, signal.SIGKILL)
        elif holder.stdin:
            holder.stdin.close()

    with Claims(tmp_path, "ours") as ours:
        ours.take("top_2", 60, report)
    assert reports[-1].startswith("The other run (datasets, run 1) has ended: this one goes on with top_2 after ")
    holder.wait()


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_lock_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path, end: str) -> None:
    if end == "killed":
        os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with Claims(tmp_path, "ours") as ours:
        ours.take("top_2", 0, pytest.fail)
        ours.take("study_cell/a", 0, pytest.fail)
    with Claims(tmp_path, "the next") as ours:
        ours.take("top_2", 0, pytest.fail)


def test_a_process_counts_as_ended_only_when_it_has_ended() -> None:
    assert not has_ended(this_process())
    host, boot, pid, start = this_process().split(" ")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    prefix = f"{host} {boot} {other.pid} "
    assert has_ended(prefix + "1"), "another process had the same id"
    assert has_ended(f"{host} an-earlier-boot {pid} {start}")
    assert not has_ended(f"elsewhere {boot} {other.pid} 1"), "processes of another host are unknown"
    assert not has_ended("")
    assert not has_ended(f"{host} ? {pid} 1"), "unknown without /proc"
    other.communicate()
    assert has_ended(prefix + start)
