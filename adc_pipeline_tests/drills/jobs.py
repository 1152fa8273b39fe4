"""A job as a process of its own, in a place of its own: what every drill starts, breaks and starts again.

The settings are small: the job `adc` takes about 70 s of one core, half of it imports, and its bytes do not depend on
the machine's load, so that two runs of it can be compared file by file.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
MODULE = ["-m", "adc_pipeline.definitions", "-j", "adc"]
# So that a run that never ends is a failure of the drill and not its end.
SECONDS_FOR_A_RUN = 1800
ENDED = ("SUCCESS", "FAILURE", "CANCELED")

_TRAINING = {
    "max_steps": 80,
    "sequence_length": 128,
    "tokens_per_step": 512,
    "checkpoint_every": 8,
    "log_every": 4,
}
_EVALUATION = {"draws": 100, "samples": 4, "max_new_tokens": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "raw_corpus": {"corpus": "sample"},
    "base_model": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 400},
    "top_2_model": _TRAINING,
    "random_walk_model": _TRAINING,
    "top_2_evaluation": _EVALUATION,
    "random_walk_evaluation": _EVALUATION,
    "comparison": {"draws": 100},
    "top_2_champion": {"draws": 100},
    "random_walk_champion": {"draws": 100},
}


def write_config(file: Path, conversations: int, only: Collection[str] = (), **changed: dict[str, Any]) -> Path:
    """The run configuration of the drills as a file; `changed` adds settings to those of an asset.

    With `only`, of these assets alone: a run of a part of the job takes no settings of what it leaves out.
    """
    settings = {name: {**SETTINGS[name], **changed.get(name, {})} for name in only or SETTINGS}
    settings["raw_corpus"]["sample_conversations"] = conversations
    file.write_text(yaml.safe_dump({"ops": {name: {"config": values} for name, values in settings.items()}}))
    return file


@dataclass(frozen=True)
class Ground:
    """Where a job runs: an ADC_HOME, Dagster's instance and MLflow ("" for the database in ADC_HOME).

    `more` are further variables of its environment.
    """

    folder: Path
    tracking: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def dagster(self) -> Path:
        return self.folder / "dagster"

    @property
    def temporary(self) -> Path:
        """For temporary files, which a killed process leaves; short, since sockets lie there as well."""
        return self.folder / "t"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    @classmethod
    def make(
        cls,
        folder: Path,
        tracking: str = "",
        storage: dict[str, Any] | None = None,
        more: dict[str, str] | None = None,
    ) -> "Ground":
        """The folders, and the project's own dagster.yaml with its storage moved here, or replaced by `storage`."""
        ground = cls(folder, tracking, more or {})
        ground.home.mkdir(parents=True)
        ground.dagster.mkdir()
        ground.temporary.mkdir()
        instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
        instance["storage"] = storage or {"sqlite": {"base_dir": str(ground.dagster)}}
        instance["compute_logs"]["config"]["base_dir"] = str(ground.dagster / "logs")
        (ground.dagster / "dagster.yaml").write_text(yaml.safe_dump(instance))
        return ground

    def environment(self) -> dict[str, str]:
        """One thread a process, since the models are tiny; nothing else of this project's from outside."""
        ours = {"ADC_HOME": str(self.home), "DAGSTER_HOME": str(self.dagster), "OMP_NUM_THREADS": "1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ADC_", "MLFLOW_", "DAGSTER_"))}
        tracking = {"MLFLOW_TRACKING_URI": self.tracking} if self.tracking else {}
        ours |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TMPDIR": str(self.temporary)}
        return {**kept, **ours, **tracking, **self.more}

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
        """A command in the repository's root, with its words in `run.log`."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=user
            )

    def execute(self, config: Path, *more: str) -> subprocess.Popen[bytes]:
        """The job in a process of its own, the step included."""
        return self.start(sys.executable, "-m", "dagster", "job", "execute", *MODULE, "-c", str(config), *more)

    def launch(self, config: Path) -> str:
        """The job put into the queue, from which a daemon takes it; the run's id."""
        run = str(uuid.uuid4())
        process = self.start(
            sys.executable, "-m", "dagster", "job", "launch", *MODULE, "-c", str(config), "--run-id", run
        )
        if process.wait(SECONDS_FOR_A_RUN):
            raise RuntimeError(f"The run was not launched: {self.said()}")
        return run

    def daemon(self) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-m", "dagster._daemon", "run", *MODULE[:2])

    def make_tables(self) -> None:
        """Make the tables of Dagster's instance: two processes that both find none on their first use would collide."""
        from dagster import DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            instance.get_runs_count()
            instance.all_instigator_state()
            instance.get_asset_keys()

    def status(self, run: str) -> str:
        """The status of a run as Dagster has it."""
        from dagster import DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            found = instance.get_run_by_id(run)
        return found.status.value if found else "unknown"

    def failures(self) -> dict[str, list[str]]:
        """Of each step of the newest run that failed: the sentence that a person reads, or else the error's lines."""
        from dagster import DagsterEventType, DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            (run,) = instance.get_runs(limit=1)
            events = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
        told = {}
        for event in events:
            assert event.dagster_event is not None
            data = event.dagster_event.step_failure_data
            if data.user_failure_data:
                told[str(event.dagster_event.step_key)] = [str(data.user_failure_data.description)]
            else:
                told[str(event.dagster_event.step_key)] = str(data.error).splitlines()
        return told

    def said(self, characters: int = 3000) -> str:
        """The end of what all processes said."""
        return self.log.read_text(errors="replace")[-characters:]


def below(process: int) -> list[psutil.Process]:
    """A process and all that it has started, as far as they are still there."""
    try:
        top = psutil.Process(process)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def trainings(process: int) -> list[psutil.Process]:
    """The training processes below a process."""
    found = []
    for each in below(process):
        try:
            if "adc_pipeline.training" in each.cmdline():
                found.append(each)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def metrics_file(training: psutil.Process) -> Path:
    """Where a training process writes its figures, beside the job that it was started with."""
    return Path(training.cmdline()[-1]).with_name("metrics.jsonl")


def last_step(training: psutil.Process) -> int:
    """The last step of whose figures a training has told; 0 where it has told of none, -1 before its first."""
    try:
        lines = metrics_file(training).read_text().splitlines(keepends=True)
    except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError, FileNotFoundError):
        return -1
    whole = [line for line in lines if line.endswith("\n")]
    return int(json.loads(whole[-1])["step"]) if whole else 0


def stepping_or_gone(training: psutil.Process) -> bool:
    """Whether a training has begun to take steps, if only in an earlier process of the same job, or has ended."""
    try:
        return gone(training) or metrics_file(training).exists()
    except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
        return True


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each of these, and to nothing else; returns when all are gone."""
    # A process below one that nobody waits for is collected by init; ours we have to collect.
    killed = list(processes)
    for process in killed:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(killed, timeout=30)


def end_as_a_whole() -> None:
    """Let SIGTERM, and Ctrl+C also in the background, end the drill with all that it has started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def removed_at_end(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block, nor does anything that it has started by then."""
    try:
        yield process
    finally:
        kill(below(process.pid))
        process.wait()


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 180, every: float = 0.2) -> float:
    """Wait until a condition holds, and return how long that took; RuntimeError if it takes more than `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"{what}: not seen within {seconds:.0f} s")
        time.sleep(every)
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
