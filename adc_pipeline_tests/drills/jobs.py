"""Run a job in a process and an ADC_HOME of its own; every drill starts, disturbs and reruns such jobs.

The settings are small: the job `adc` takes about 70 s of one core, half of it imports. Its bytes do not depend on the
machine's load, so that two runs can be compared file by file.
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
# Timeout of a run, so that a run that hangs is a failure of the drill.
SECONDS_FOR_A_RUN = 1800
ENDED = ("SUCCESS", "FAILURE", "CANCELED")

_TRAINING = {
    "max_steps": 80,
    "sequence_length": 128,
    "tokens_per_step": 512,
    "checkpoint_every": 8,
    "log_every": 4,
}
_EVALUATION = {"draws": 100, "samples": 4, "max_new_tokens": 16, "contexts": 8, "reply_tokens": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "raw_corpus": {"corpus": "sample"},
    "base_model": {"layers": 1, "width": 32, "heads": 2, "vocabulary": 400},
    "top_2_model": _TRAINING,
    "random_walk_model": _TRAINING,
    "ascending_model": _TRAINING,
    "top_2_evaluation": _EVALUATION,
    "random_walk_evaluation": _EVALUATION,
    "ascending_evaluation": _EVALUATION,
    "comparison": {"draws": 100},
    "top_2_champion": {"draws": 100},
    "random_walk_champion": {"draws": 100},
    "ascending_champion": {"draws": 100},
}


def write_config(file: Path, conversations: int, only: Collection[str] = (), **changed: dict[str, Any]) -> Path:
    """Write the run configuration of the drills to a file; `changed` adds settings to those of an asset.

    With `only`, write the settings of these assets only: a run of a part of the job rejects those of other assets.
    """
    settings = {name: {**SETTINGS[name], **changed.get(name, {})} for name in only or SETTINGS}
    settings["raw_corpus"]["sample_conversations"] = conversations
    file.write_text(yaml.safe_dump({"ops": {name: {"config": values} for name, values in settings.items()}}))
    return file


@dataclass(frozen=True)
class Installation:
    """Where a job runs: an ADC_HOME, Dagster's instance and MLflow ("" for the database in ADC_HOME).

    `more` has additional environment variables.
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
        """The folder for temporary files, which a killed process leaves; its path is short because of sockets."""
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
    ) -> "Installation":
        """Create the folders, and the project's dagster.yaml with its storage moved here or replaced by `storage`."""
        installation = cls(folder, tracking, more or {})
        installation.home.mkdir(parents=True)
        installation.dagster.mkdir()
        installation.temporary.mkdir()
        instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
        instance["storage"] = storage or {"sqlite": {"base_dir": str(installation.dagster)}}
        instance["compute_logs"]["config"]["base_dir"] = str(installation.dagster / "logs")
        (installation.dagster / "dagster.yaml").write_text(yaml.safe_dump(instance))
        return installation

    def environment(self) -> dict[str, str]:
        """Return the environment: one thread per process, since models are tiny, and no variables of other projects."""
        ours = {"ADC_HOME": str(self.home), "DAGSTER_HOME": str(self.dagster), "OMP_NUM_THREADS": "1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ADC_", "MLFLOW_", "DAGSTER_"))}
        tracking = {"MLFLOW_TRACKING_URI": self.tracking} if self.tracking else {}
        ours |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TMPDIR": str(self.temporary)}
        return {**kept, **ours, **tracking, **self.more}

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
        """Start a command in the repository's root, with its output in `run.log`."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=user
            )

    def execute(self, config: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start the job in a process of its own, which also executes the steps."""
        return self.start(sys.executable, "-m", "dagster", "job", "execute", *MODULE, "-c", str(config), *more)

    def launch(self, config: Path) -> str:
        """Put the job into the run queue, from which a daemon starts it; return the run's id."""
        run = str(uuid.uuid4())
        process = self.start(
            sys.executable, "-m", "dagster", "job", "launch", *MODULE, "-c", str(config), "--run-id", run
        )
        if process.wait(SECONDS_FOR_A_RUN):
            raise RuntimeError(f"The run was not launched: {self.output()}")
        return run

    def daemon(self) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-m", "dagster._daemon", "run", *MODULE[:2])

    def make_tables(self) -> None:
        """Create the tables of Dagster's instance, since two processes that both create them would collide."""
        from dagster import DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            instance.get_runs_count()
            instance.all_instigator_state()
            instance.get_asset_keys()

    def status(self, run: str) -> str:
        """Return the status of a run in Dagster, or "unknown"."""
        from dagster import DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            found = instance.get_run_by_id(run)
        return found.status.value if found else "unknown"

    def failures(self) -> dict[str, list[str]]:
        """Return the messages of the failed steps of the newest run: one sentence each, or else the error's lines."""
        from dagster import DagsterEventType, DagsterInstance

        with DagsterInstance.from_config(str(self.dagster)) as instance:
            (run,) = instance.get_runs(limit=1)
            events = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
        messages = {}
        for event in events:
            assert event.dagster_event is not None
            data = event.dagster_event.step_failure_data
            if data.user_failure_data:
                messages[str(event.dagster_event.step_key)] = [str(data.user_failure_data.description)]
            else:
                messages[str(event.dagster_event.step_key)] = str(data.error).splitlines()
        return messages

    def output(self, characters: int = 3000) -> str:
        """Return the end of the output of all processes."""
        return self.log.read_text(errors="replace")[-characters:]


def process_tree(process: int) -> list[psutil.Process]:
    """Return a process and all its descendants that still exist."""
    try:
        top = psutil.Process(process)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def trainings(process: int) -> list[psutil.Process]:
    """Return the training processes among a process and its descendants."""
    found = []
    for each in process_tree(process):
        try:
            if "adc_pipeline.training" in each.cmdline():
                found.append(each)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def metrics_file(training: psutil.Process) -> Path:
    """Return the file that a training process writes its metrics to."""
    return Path(training.cmdline()[-1]).with_name("metrics.jsonl")


def last_step(training: psutil.Process) -> int:
    """Return the last step that a training has logged; 0 if it has logged none, -1 before it has started."""
    try:
        lines = metrics_file(training).read_text().splitlines(keepends=True)
    except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError, FileNotFoundError):
        return -1
    whole = [line for line in lines if line.endswith("\n")]
    return int(json.loads(whole[-1])["step"]) if whole else 0


def stepping_or_exited(training: psutil.Process) -> bool:
    """Return whether a training, or an earlier process of the same job, has started its steps, or it has exited."""
    try:
        return has_exited(training) or metrics_file(training).exists()
    except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
        return True


def has_exited(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to these processes, and return when they have exited."""
    killed = list(processes)
    for process in killed:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(killed, timeout=30)


def handle_signals() -> None:
    """Let SIGTERM, and Ctrl+C even in the background, end the drill with all processes that it has started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def killed_at_end(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill a process and its descendants at the end of the block."""
    try:
        yield process
    finally:
        kill(process_tree(process.pid))
        process.wait()


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 180, every: float = 0.2) -> float:
    """Wait until a condition holds and return the seconds waited; raise RuntimeError after `seconds`."""
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
