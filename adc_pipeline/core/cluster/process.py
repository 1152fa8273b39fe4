"""Run Python as a process on a node of the Ray cluster, with what `subprocess.Popen` offers of a process.

An actor of Ray takes the CPUs and GPUs, starts the process on its node and waits for it. The process writes its lines
to a file on storage that every node sees, which the caller follows as that of a process of this machine. If the node or
the actor is lost, or the process is killed, it is started again, on any node, and goes on from what it has saved.

A node that seems lost may still run the process. Whoever starts it again therefore waits for the lock on a file, which
the process holds as long as it lives. Ray's jobs, through its own client or Dagster's, would ask for the server of the
dashboard on the head, and would neither restart a job nor bring its lines here sooner.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from adc_pipeline.core.cluster.connection import ATTEMPTS, MOST_LOSSES, check_room, connected
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Placement

RESOURCE = "training"
SECONDS_BETWEEN_LOOKS = 0.5


class ClusterProcess:
    """Python with some arguments on the cluster: `poll`, `wait`, `send_signal`, `terminate`, `returncode` and `args`.

    `log` receives all that it prints, and `variables` are added to the environment of the node. Every signal is sent as
    SIGINT. `wait` raises PipelineError for a process that was lost too often.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, placement: Placement, variables: Mapping[str, str] | None = None
    ) -> None:
        self.args, self.log, self.variables = list(arguments), log, dict(variables or {})
        self.returncode: int | None = None
        self.ray = connected(RESOURCE)
        wanted = {"CPU": placement.cpus, "GPU": placement.gpus}
        settings = "the resource training's settings cpus and gpus"
        check_room(self.ray, wanted, f"{placement.cpus} CPUs and {placement.gpus} GPUs", settings)
        # One thread runs the process, another one stops it.
        self.options = {"num_cpus": placement.cpus, "num_gpus": placement.gpus, "max_concurrency": 2}
        self.lost = self.killed = 0
        self.stopped = False
        self.start()

    def start(self) -> None:
        self.actor = self.ray.remote(ProcessActor).options(**self.options).remote()
        self.alive = self.actor.alive.remote()
        self.future = self.actor.run.remote(self.args, self.log, self.variables, Path.cwd())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raise subprocess.TimeoutExpired if the process still runs after `timeout` seconds."""
        ends = None if timeout is None else monotonic() + timeout
        while self.returncode is None:
            left = SECONDS_BETWEEN_LOOKS if ends is None else max(0.0, min(ends - monotonic(), SECONDS_BETWEEN_LOOKS))
            ready, _ = self.ray.wait([self.future], timeout=left)
            if ready:
                self.take_status()
            elif ends is not None and monotonic() >= ends:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def take_status(self) -> None:
        """Take the exit status of a process that has ended, or start one that was lost again."""
        ray = self.ray
        try:
            status = ray.get(self.future)
        except ray.exceptions.RayTaskError:
            self.returncode = 1
            raise
        except ray.exceptions.RayError as error:
            self.lost += 1
            self.restart(f"was lost with its node or process ({type(error).__name__})", self.lost < MOST_LOSSES)
            return
        if status == -signal.SIGKILL and not self.stopped:
            self.killed += 1
            if self.killed < ATTEMPTS:
                self.restart("was killed", True)
                return
        self.returncode = status
        ray.kill(self.actor)

    def restart(self, what: str, possible: bool) -> None:
        """Start the process again, and say so in its log, unless it was told to end.

        Raise PipelineError if it has ended too often.
        """
        if self.stopped:
            self.returncode = -signal.SIGINT
            return
        if not possible:
            self.returncode = -signal.SIGKILL
            raise PipelineError(
                f"The process of {self.log} {what}, {MOST_LOSSES} times in all: look after the nodes of the Ray cluster"
                " and start the same run again, which goes on from what is saved."
            )
        with self.log.open("a") as log:
            log.write(f"The process {what}: it is started again and goes on from what it has saved.\n")
        with suppress(Exception):
            self.ray.kill(self.actor)
        self.start()

    def send_signal(self, _: int) -> None:
        """Ask the process to end; one that waits for its CPUs and GPUs ends at once."""
        self.stopped = True
        if self.ray.wait([self.alive], timeout=0)[0]:
            self.actor.stop.remote()
        elif self.returncode is None:
            self.ray.kill(self.actor)
            self.returncode = -signal.SIGINT

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ProcessActor:
    """The actor, which runs the process on a node of the cluster."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def alive(self) -> None:
        """Return as soon as the actor has its CPUs and GPUs."""

    def stop(self) -> None:
        self.stopped.set()

    def run(self, arguments: Sequence[str], log: Path, variables: Mapping[str, str], folder: Path) -> int:
        """Run Python with `arguments` to its end; return its exit status, that of SIGINT if it was never started."""
        handle = os.open(log.with_name(f"{log.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not try_lock(handle):
                if self.stopped.wait(SECONDS_BETWEEN_LOOKS):
                    return -signal.SIGINT
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "adc_pipeline.core.ends_with_parent", *arguments],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | variables,
                    cwd=folder if folder.is_dir() else None,
                    pass_fds=(handle,),
                )
        finally:
            # The process has it, too.
            os.close(handle)
        while process.poll() is None:
            if self.stopped.wait(SECONDS_BETWEEN_LOOKS):
                self.stopped.clear()
                process.send_signal(signal.SIGINT)
        return process.returncode


def try_lock(handle: int) -> bool:
    """Lock an open file, unless another process holds the lock; return whether it is locked now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
