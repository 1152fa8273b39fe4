"""The process of a fine-tune, which may run beside the making of other assets.

A model as small as that of the sample gains little from a second core, so trainings of small models run side by side:
the first step of a run that finds the inputs of such a training complete starts its process, and the model's own step
waits for it, relays its figures and registers the model. Whatever ends the run ends the processes, which save a
checkpoint first. A process that is started early writes to its work folder only; nothing is recorded before its step.

The process prints its lines to a file, `log.txt` in the work folder, which the step follows. Dagster's own client
(`PipesSubprocessClient`) starts and awaits a process in one call, within one step.

The process runs on this machine, or on the Ray cluster (`core.cluster.process`), where it is started again from its
last checkpoint if it is lost.
"""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from adc_pipeline.core.cluster.process import ClusterProcess
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.store.links import locked
from adc_pipeline.training.launching.launch import END_WITH_PARENT, launch_command
from adc_pipeline.training.loop.checkpoint import claim, fingerprint
from adc_pipeline.training.settings import TrainingJob

# How long an interrupted training may take to save its checkpoint before it is abandoned.
SECONDS_TO_SAVE = 600
SECONDS_BETWEEN_READS = 0.5
# With fewer free bytes than this, a process may fail to write even its error message.
NO_ROOM = 64 << 10


class TrainingProcess:
    """A running fine-tune.

    `restarted` says whether its work folder held another job's work, which is removed, and `awaited` whether a step
    has waited for it.
    Raises PipelineError if another run is training there.
    """

    def __init__(self, job: TrainingJob, name: str, placement: Placement | None = None) -> None:
        job.work.mkdir(parents=True, exist_ok=True)
        self.job, self.log = job, job.work / "log.txt"
        self.awaited = False
        with ExitStack() as held:
            if not held.enter_context(locked(job.work)):
                raise PipelineError(
                    f"Another run is training {name} in {job.work}: wait for it to end, or give this run an ADC_HOME of"
                    " its own."
                )
            # Before figures are relayed, so that none of another job are.
            self.restarted = claim(job.work, fingerprint(job))
            (job.work / "job.json").write_text(job.to_json())
            (job.work / "failure.txt").unlink(missing_ok=True)
            command = [*launch_command(job.work / "job.json", job.settings.accelerate_config), END_WITH_PARENT]
            with self.log.open("wb") as output:
                self.process: subprocess.Popen[bytes] | ClusterProcess = (
                    # On the node, Python may have another place.
                    ClusterProcess(command[1:], self.log, placement)
                    if placement and placement.on_cluster
                    else subprocess.Popen(command, stdout=output)
                )
            self.held = held.pop_all()

    def wait(self, report: Callable[[str], None]) -> None:
        """Report each line that the process prints until it ends; raise PipelineError if it fails.

        The message is the process's own. A process that the system kills leaves none.
        """
        self.awaited = True
        for line in self.lines():
            report(line)
        self.close()
        if self.process.returncode:
            raise self.error()

    def lines(self) -> Iterator[str]:
        """Yield the lines that the process prints until it ends."""
        rest = ""
        with self.log.open(errors="replace") as output:
            running = True
            while running:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(SECONDS_BETWEEN_READS)
                    running = False
                *lines, rest = (rest + output.read()).split("\n")
                yield from lines
        if rest:
            yield rest

    def interrupt(self) -> None:
        """Have the process save a checkpoint and end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End the process, if it still runs, when it has saved a checkpoint, and release its work folder."""
        self.interrupt()
        try:
            self.process.wait(SECONDS_TO_SAVE)
        finally:
            self.held.close()

    def error(self) -> Exception:
        """Return the error that states why the process failed."""
        job, code = self.job, self.process.returncode or 0
        failure = job.work / "failure.txt"
        if message := failure.read_text().strip() if failure.exists() else "":
            return PipelineError(message)
        if shutil.disk_usage(job.work).free < NO_ROOM:
            # The process could not even write its error message.
            return PipelineError(
                f"The disk of ADC_HOME is full ({job.work}): make room and run again to resume from the last"
                " checkpoint."
            )
        # The code below a shell, as that of a launcher, is above 128.
        number = -code if code < 0 else code - 128
        if number == signal.SIGKILL:
            # Imported here because it imports torch, which Dagster's definitions do without.
            from adc_pipeline.training.loop.stopping import memory_advice

            return PipelineError(
                "The training process was killed, as Linux does when the machine has no memory left;"
                f" {memory_advice(job.settings)}."
            )
        if number in signal.valid_signals():
            return PipelineError(
                f"The training process was ended by the signal {number} ({signal.strsignal(number)}): look for the"
                f" cause in {self.log} and in the system's log, and run it again to resume from the last checkpoint."
            )
        return subprocess.CalledProcessError(code, self.process.args)
